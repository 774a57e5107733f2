package config

// parsedSections keeps what parsing made of sections of files, so that those that did not change are not
// parsed again. It belongs to one goroutine.
type parsedSections struct {
	known map[string]parsedSection // by version, which names text and place
	seen  map[string]parsedSection // since the last forget
}

type parsedSection struct {
	resources []Resource
	findings  []Finding
}

func newParsedSections() *parsedSections {
	return &parsedSections{seen: make(map[string]parsedSection)}
}

// recall gives what the section was parsed to, if it was.
func (k *parsedSections) recall(version string) (parsedSection, bool) {
	s, ok := k.known[version]
	if ok {
		k.seen[version] = s
	}
	return s, ok
}

func (k *parsedSections) keep(version string, s parsedSection) { k.seen[version] = s }

// forget drops what was not met since the last time.
func (k *parsedSections) forget() {
	k.known, k.seen = k.seen, make(map[string]parsedSection)
}
