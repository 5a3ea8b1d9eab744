package archive

import (
	"fmt"
	"strings"
)

// Format is how files are put together.
type Format string

// The formats, by their names in a job's description.
const (
	Zip     Format = "zip"
	ZipZstd Format = "zipzstd"
	TarZstd Format = "tarzstd"
	Gzip    Format = "gzip"
	Raw     Format = "raw"
)

// ParseFormat reads a format's name; "" is Zip.
func ParseFormat(name string) (Format, error) {
	switch f := Format(strings.ToLower(strings.TrimSpace(name))); f {
	case "":
		return Zip, nil
	case Zip, ZipZstd, TarZstd, Gzip, Raw:
		return f, nil
	}
	return "", fmt.Errorf("unknown archive format %q: want zip, zipzstd, tarzstd, gzip or raw", name)
}

// Level is how much work goes into compression.
type Level int

// The levels; the zero value is Default.
const (
	Default Level = iota
	Fastest       // zip: none at all
	Fast
	Slow
	Slowest
)

// ParseLevel reads a level's name; "" is Default. ok is false when there is
// no such level, then Default is returned.
func ParseLevel(name string) (l Level, ok bool) {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "", "default":
		return Default, true
	case "fastest":
		return Fastest, true
	case "fast":
		return Fast, true
	case "slow":
		return Slow, true
	case "slowest":
		return Slowest, true
	}
	return Default, false
}

// Magic numbers of what Extract can be given.
const (
	zstdMagic = "\x28\xb5\x2f\xfd"
	gzipMagic = "\x1f\x8b"
)

// sniff tells the format of an archive by its first bytes.
func sniff(head []byte) Format {
	switch {
	case strings.HasPrefix(string(head), zstdMagic):
		return TarZstd
	case strings.HasPrefix(string(head), gzipMagic):
		return Gzip
	}
	return Zip
}
