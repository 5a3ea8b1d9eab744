//go:build unix

package cli

import "os"

// openKeys opens the keyboard such that a read can be ended by a deadline.
func openKeys() (*os.File, error) { return os.OpenFile("/dev/tty", os.O_RDONLY, 0) }
