package authz

// MatchTemplate matches a path with a template that is one.
func MatchTemplate(s, path string) bool {
	t, err := parseTemplate(s)
	if err != nil {
		panic(err)
	}
	return t.match(path)
}

// Readings gives the readings of a path.
func Readings(path string) []string {
	var into [readings]string
	return append([]string(nil), into[:readPath(&into, path)]...)
}
