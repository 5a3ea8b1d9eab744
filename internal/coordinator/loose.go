package coordinator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The types of this file decode what a coordinator should have sent from what
// it did send: null is the zero value everywhere, scalars are converted where
// nothing is lost. Their errors never quote a value, it may be a secret.

// text accepts strings, numbers and truth values.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	switch kindOf(b) {
	case "null":
		return nil
	case "string":
		s, err := unquote(b)
		*t = text(s)
		return err
	case "number", "boolean":
		*t = text(b)
		return nil
	}
	return wrong("a string", b)
}

// unquote decodes a JSON string, quickly when there is nothing to decode.
func unquote(b []byte) (string, error) {
	for _, c := range b[1 : len(b)-1] {
		if c == '\\' || c >= 0x80 {
			var s string
			err := json.Unmarshal(b, &s)
			return s, err
		}
	}
	return string(b[1 : len(b)-1]), nil
}

// integer accepts numbers, also as strings, and cuts fractions.
type integer int64

// UnmarshalJSON implements json.Unmarshaler.
func (i *integer) UnmarshalJSON(b []byte) error {
	s := string(b)
	switch kindOf(b) {
	case "null":
		return nil
	case "string":
		var err error
		if s, err = unquote(b); err != nil {
			return err
		}
		s = strings.TrimSpace(s)
	case "number":
	default:
		return wrong("a number", b)
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		*i = integer(n)
		return nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) >= 1<<63 {
		return errors.New("want a number of 64 bits")
	}
	*i = integer(f)
	return nil
}

// float accepts finite numbers, also as strings.
type float float64

// UnmarshalJSON implements json.Unmarshaler.
func (f *float) UnmarshalJSON(b []byte) error {
	var t text
	if err := t.UnmarshalJSON(b); err != nil {
		return err
	}
	if t == "" {
		return nil
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(string(t)), 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return errors.New("want a number")
	}
	*f = float(n)
	return nil
}

// flag accepts truth values, also as strings and as 0 and 1.
type flag bool

// UnmarshalJSON implements json.Unmarshaler.
func (f *flag) UnmarshalJSON(b []byte) error {
	var t text
	if err := t.UnmarshalJSON(b); err != nil {
		return err
	}
	if t == "" {
		return nil
	}
	v, err := strconv.ParseBool(strings.TrimSpace(string(t)))
	if err != nil {
		return errors.New("want true or false")
	}
	*f = flag(v)
	return nil
}

// list accepts arrays of scalars, and a scalar for an array of one. Null
// elements are left out.
type list []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *list) UnmarshalJSON(b []byte) error {
	switch kindOf(b) {
	case "null":
		return nil
	case "array":
		var raw []*text
		if err := json.Unmarshal(b, &raw); err != nil {
			return err
		}
		out := make(list, 0, len(raw))
		for _, t := range raw {
			if t != nil {
				out = append(out, string(*t))
			}
		}
		*l = out
		return nil
	}
	var t text
	if err := t.UnmarshalJSON(b); err != nil {
		return wrong("an array of strings", b)
	}
	*l = list{string(t)}
	return nil
}

// loose is for what only informs: what cannot be decoded is the zero value.
type loose[T any] struct{ v T }

// UnmarshalJSON implements json.Unmarshaler.
func (l *loose[T]) UnmarshalJSON(b []byte) error {
	var v T
	if json.Unmarshal(b, &v) == nil {
		l.v = v
	}
	return nil
}

// kindOf names the type of a JSON value.
func kindOf(b []byte) string {
	b = bytes.TrimLeft(b, " \t\r\n")
	if len(b) == 0 {
		return "nothing"
	}
	switch b[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

func wrong(want string, got []byte) error {
	return fmt.Errorf("want %s, got %s", want, kindOf(got))
}

// section decodes one part of a payload and names it in the error.
func section(name string, raw json.RawMessage, into any) error {
	if raw == nil {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s: %w", name, plain(err))
	}
	return nil
}

// plain puts the words of JSON in place of those of Go.
func plain(err error) error {
	var te *json.UnmarshalTypeError
	if !errors.As(err, &te) {
		return err
	}
	want := "another type"
	switch te.Type.Kind().String() {
	case "slice":
		want = "an array"
	case "struct", "map", "ptr":
		want = "an object"
	case "string":
		want = "a string"
	}
	got, _, _ := strings.Cut(te.Value, " ") // of a number, Value has its digits
	if te.Field != "" {
		return fmt.Errorf("%s: want %s, got %s", te.Field, want, got)
	}
	return fmt.Errorf("want %s, got %s", want, got)
}
