package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// alwaysWritten are the keys of a runner that are written even when empty.
const alwaysWritten = " name url token token_obtained_at token_expires_at executor "

// encodeRunner returns a runner as a [[runners]] entry, with name as its key,
// laid out as GitLab Runner does. Keys without a value are left out.
func encodeRunner(name string, r *Runner) string {
	var b strings.Builder
	b.WriteString("[[" + encodeKey(name) + "]]\n")
	encodeTable(&b, reflect.ValueOf(r).Elem(), encodeKey(name), 1)
	return b.String()
}

// encodeTable writes the keys of a struct, then the tables in it.
func encodeTable(b *strings.Builder, v reflect.Value, path string, depth int) {
	indent := strings.Repeat("  ", depth)
	fields := fieldsOf(v.Type())
	for _, f := range fields {
		value := v.FieldByIndex(f.index)
		always := depth == 1 && strings.Contains(alwaysWritten, " "+f.name+" ")
		if f.isTable() || value.IsZero() && !always {
			continue
		}
		fmt.Fprintf(b, "%s%s = %s\n", indent, encodeKey(f.name), encodeValue(value))
	}
	for _, f := range fields {
		value := v.FieldByIndex(f.index)
		if !f.isTable() || value.IsZero() {
			continue
		}
		at := path + "." + encodeKey(f.name)
		switch value.Kind() {
		case reflect.Pointer:
			fmt.Fprintf(b, "%s[%s]\n", indent, at)
			encodeTable(b, value.Elem(), at, depth+1)
		case reflect.Struct:
			fmt.Fprintf(b, "%s[%s]\n", indent, at)
			encodeTable(b, value, at, depth+1)
		case reflect.Slice:
			for i := range value.Len() {
				fmt.Fprintf(b, "%s[[%s]]\n", indent, at)
				encodeTable(b, value.Index(i), at, depth+1)
			}
		case reflect.Map:
			fmt.Fprintf(b, "%s[%s]\n", indent, at)
			keys := value.MapKeys()
			slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
			for _, k := range keys {
				fmt.Fprintf(b, "%s  %s = %s\n", indent, encodeKey(k.String()), encodeValue(value.MapIndex(k)))
			}
		}
	}
}

// encodeValue returns a value in TOML, on one line.
func encodeValue(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Time:
		return encodeTime(x)
	case time.Duration:
		return encodeString(x.String())
	case map[string]any:
		parts := make([]string, 0, len(x))
		for _, k := range slices.Sorted(maps.Keys(x)) {
			parts = append(parts, encodeKey(k)+" = "+encodeValue(reflect.ValueOf(x[k])))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return encodeValue(v.Elem())
	case reflect.String:
		return encodeString(v.String())
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Float64:
		text := strconv.FormatFloat(v.Float(), 'f', -1, 64)
		if !strings.ContainsAny(text, ".IN") {
			text += ".0"
		}
		return strings.ToLower(strings.NewReplacer("Inf", "inf", "NaN", "nan").Replace(text))
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = encodeValue(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return encodeString(fmt.Sprint(v.Interface()))
	}
}

// encodeTime returns a date and time in UTC; the zero time means never.
func encodeTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z07:00") }

// encodeKey returns a key, in quotes where it needs them.
func encodeKey(key string) string {
	if key != "" && bareKey([]byte(key)) == key && !strings.Contains(key, ".") {
		return key
	}
	return encodeString(key)
}

// encodeString returns a string in quotes.
func encodeString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
