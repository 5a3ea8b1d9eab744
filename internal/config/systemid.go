package config

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// systemIDFile is the name of the file with the system id, beside config.toml.
const systemIDFile = ".runner_system_id"

var systemIDPattern = regexp.MustCompile(`^[sr]_[0-9a-zA-Z]{12}$`)

// SystemID returns the id of this machine for GitLab, and keeps it in the file
// .runner_system_id of dir. The id is s_ and twelve hexadecimal digits made
// from the machine id of the operating system, or r_ and twelve random
// characters when there is none. A file with another content is replaced.
//
// The id is valid even when the error is not nil: the error then says that it
// could not be kept, so that a random one would differ after a restart.
func SystemID(dir string) (string, error) { return systemID(dir, machineID) }

func systemID(dir string, machineID func() string) (string, error) {
	path := filepath.Join(dir, systemIDFile)
	stored, err := os.ReadFile(path)
	if err == nil {
		if id := strings.TrimSpace(string(stored)); systemIDPattern.MatchString(id) {
			return id, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return newSystemID(machineID()), fmt.Errorf("reading the system id: %w", err)
	}
	id := newSystemID(machineID())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return id, fmt.Errorf("keeping the system id: %w", err)
	}
	if err := replaceFile(path, []byte(id), os.Rename); err != nil {
		return id, fmt.Errorf("keeping the system id: %w", err)
	}
	return id, nil
}

func newSystemID(machine string) string {
	if machine == "" {
		return "r_" + randomText(12)
	}
	mac := hmac.New(sha256.New, []byte(machine))
	mac.Write([]byte("gitlab-runner"))
	return "s_" + hex.EncodeToString(mac.Sum(nil))[:12]
}

// randomText returns n characters of a-z, A-Z and 0-9, all equally likely.
func randomText(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	out := make([]byte, 0, n)
	var buf [64]byte
	for len(out) < n {
		_, _ = rand.Read(buf[:]) // It never fails.
		for _, b := range buf {
			if b < 4*byte(len(letters)) && len(out) < n {
				out = append(out, letters[int(b)%len(letters)])
			}
		}
	}
	return string(out)
}

// firstLine returns the trimmed content of the first of the files that has
// any.
func firstLine(paths ...string) string {
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if text := strings.TrimSpace(string(data)); text != "" {
			return text
		}
	}
	return ""
}
