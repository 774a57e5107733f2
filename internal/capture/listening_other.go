//go:build !linux

package capture

import "errors"

// Listening is of Linux only.
func Listening(...uint16) (bool, error) { return false, errors.ErrUnsupported }
