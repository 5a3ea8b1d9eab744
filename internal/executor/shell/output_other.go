//go:build !unix

package shell

import "os"

// pump moves what comes through one pipe, as soon as it is there.
func (o *output) pump(i int, f *os.File) {
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			o.mu.Lock()
			o.write(i, buf[:n])
			o.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}
