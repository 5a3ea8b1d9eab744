package cli

import (
	"errors"
	"io"
	"os"
)

func handled() []os.Signal { return []os.Signal{os.Interrupt} }

func isReload(os.Signal) bool { return false }

func isGraceful(os.Signal) bool { return false }

func systemLog(string) (io.Writer, error) {
	return nil, errors.New("there is no system logger on this system")
}
