package cli

import "os"

// openKeys opens the keyboard. A read of it ends with the process only.
func openKeys() (*os.File, error) { return os.OpenFile("CONIN$", os.O_RDWR, 0) }
