package jwt

import "encoding/json"

// Claimed gives a token of claims that nobody has signed, a JSON object, for who asks what policies would do with one. It is
// never verified, and it needs no exp.
func Claimed(claims []byte) (*Token, error) {
	object, err := parseObject(claims)
	if err != nil {
		return nil, BadPayload
	}
	t, err := (&parsed{claims: withEnd(object)}).token()
	if err != nil {
		return nil, err
	}
	t.claims = object
	t.texts.members = make(map[string]*node, len(object))
	for name, v := range object {
		t.texts.members[name] = nodeOf(v, name == "scope" || name == "permission")
	}
	return t, nil
}

func withEnd(object map[string]any) map[string]any {
	all := map[string]any{"exp": json.Number("253402300799")}
	for name, v := range object {
		all[name] = v
	}
	return all
}
