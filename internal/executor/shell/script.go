package shell

import (
	"errors"
	"io"
	"os"
	"runtime"
)

// unlinked returns a temporary file that holds data and has no name any more,
// where the system allows that.
func unlinked(data []byte) (*os.File, error) {
	f, err := os.CreateTemp("", "glassrunner-")
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" { // there, the name goes with the machine's temporary files
		if err := os.Remove(f.Name()); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if _, err := f.Write(data); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
