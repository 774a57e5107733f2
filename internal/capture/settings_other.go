//go:build !linux

package capture

func (*setting) there() (bool, error) { return false, nil }

func hasIPv6() bool { return false }

func legacyTables(family) bool { return true }
