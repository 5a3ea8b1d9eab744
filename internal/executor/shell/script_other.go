//go:build !linux

package shell

import "os"

// anonymous returns a file that holds data, to be read from its start.
func anonymous(data []byte) (*os.File, error) { return unlinked(data) }
