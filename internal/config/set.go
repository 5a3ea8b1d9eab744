package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Set gives a key of the runner a value from the command line or the
// environment. path is that of a [Field], such as runners.docker.image. Lists
// take all values, tables take each value as name:value, and the others take
// the last one. The error does not repeat the value.
func (r *Runner) Set(path string, values ...string) error {
	rest, ok := strings.CutPrefix(path, "runners.")
	if !ok || len(values) == 0 {
		return fmt.Errorf("%s: no key of a runner, or no value", path)
	}
	at := reflect.ValueOf(r).Elem()
	parts := strings.Split(rest, ".")
	for i, part := range parts {
		fields := fieldsOf(at.Type())
		j := findField(fields, part)
		if j < 0 {
			return fmt.Errorf("%s: no such key", path)
		}
		v := at.FieldByIndex(fields[j].index)
		if i == len(parts)-1 {
			if err := setValue(v, values); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			return nil
		}
		if v.Kind() != reflect.Pointer || v.Type().Elem().Kind() != reflect.Struct {
			return fmt.Errorf("%s: %s is not a table", path, part)
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		at = v.Elem()
	}
	return nil
}

// wantError says what a value should have been.
type wantError string

func (e wantError) Error() string { return "want " + string(e) }

func setValue(v reflect.Value, values []string) error {
	last := values[len(values)-1]
	switch v.Type() {
	case typeDuration():
		d, err := time.ParseDuration(last)
		if err != nil {
			return wantError(`a duration such as "30s" or "1h30m"`)
		}
		v.SetInt(int64(d))
		return nil
	case typePolicies():
		var all PullPolicies
		for _, value := range values {
			for policy := range strings.SplitSeq(value, ",") {
				all = append(all, strings.TrimSpace(policy))
			}
		}
		v.Set(reflect.ValueOf(all))
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		target := reflect.New(v.Type().Elem())
		if err := setValue(target.Elem(), values); err != nil {
			return err
		}
		v.Set(target)
	case reflect.String:
		v.SetString(last)
	case reflect.Bool:
		b, err := strconv.ParseBool(last)
		if err != nil {
			return wantError("true or false")
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(last, 10, v.Type().Bits())
		if err != nil {
			return wantError("a whole number")
		}
		v.SetInt(n)
	case reflect.Float64:
		f, err := strconv.ParseFloat(last, 64)
		if err != nil {
			return wantError("a number")
		}
		v.SetFloat(f)
	case reflect.Slice:
		out := reflect.MakeSlice(v.Type(), len(values), len(values))
		for i, value := range values {
			if err := setValue(out.Index(i), []string{value}); err != nil {
				return err
			}
		}
		v.Set(out)
	case reflect.Map:
		return setMap(v, values)
	default:
		return wantError("a key that can be given on the command line")
	}
	return nil
}

// setMap sets a table from name:value pairs; lists in a table take their
// values separated by commas.
func setMap(v reflect.Value, values []string) error {
	out := reflect.MakeMapWithSize(v.Type(), len(values))
	for _, pair := range values {
		name, value, ok := strings.Cut(pair, ":")
		if !ok || name == "" {
			return wantError("name:value")
		}
		element := reflect.New(v.Type().Elem()).Elem()
		parts := []string{value}
		if element.Kind() == reflect.Slice {
			parts = strings.Split(value, ",")
		}
		if err := setValue(element, parts); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(name), element)
	}
	v.Set(out)
	return nil
}

// FillFrom copies every value of a template that r does not have.
func (r *Runner) FillFrom(template *Runner) {
	fill(reflect.ValueOf(r).Elem(), reflect.ValueOf(template).Elem())
}

func fill(into, from reflect.Value) {
	for _, f := range fieldsOf(into.Type()) {
		a, b := into.FieldByIndex(f.index), from.FieldByIndex(f.index)
		switch {
		case b.IsZero():
		case a.IsZero():
			a.Set(clone(b))
		case f.structType() != nil && a.Kind() == reflect.Pointer:
			fill(a.Elem(), b.Elem())
		case a.Kind() == reflect.Map:
			for _, k := range b.MapKeys() {
				if !a.MapIndex(k).IsValid() {
					a.SetMapIndex(k, b.MapIndex(k))
				}
			}
		}
	}
}

// clone returns a copy of a table, so that filling it later does not change
// the template.
func clone(v reflect.Value) reflect.Value {
	switch {
	case v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct:
		out := reflect.New(v.Type().Elem())
		fill(out.Elem(), v.Elem())
		return out
	case v.Kind() == reflect.Map:
		out := reflect.MakeMapWithSize(v.Type(), v.Len())
		for _, k := range v.MapKeys() {
			out.SetMapIndex(k, v.MapIndex(k))
		}
		return out
	}
	return v
}
