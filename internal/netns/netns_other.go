//go:build !linux

package netns

import "testing"

// Enter skips the test.
func Enter(t *testing.T) bool {
	t.Helper()
	t.Skip("needs Linux")
	return false
}
