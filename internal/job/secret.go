package job

// Mask is what every secret looks like wherever people can read it.
const Mask = "[MASKED]"

// A Secret is a token or password. No formatting verb, encoder or logger can
// print its value; code that has to send it calls Reveal.
type Secret string

// String returns Mask, or the empty string when there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return Mask
}

// GoString keeps %#v from printing the value.
func (s Secret) GoString() string { return s.String() }

// MarshalText keeps JSON, TOML and slog from printing the value.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal returns the value itself, for the wire and for files of mode 0600.
func (s Secret) Reveal() string { return string(s) }
