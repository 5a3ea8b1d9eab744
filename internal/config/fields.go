package config

import (
	"reflect"
	"slices"
	"strings"
)

// Field describes a key of config.toml.
type Field struct {
	Path     string   // such as runners.docker.image
	Type     string   // in words, such as "list of strings"
	Default  string   // empty when there is none
	Unit     string   // of a whole number: s, ms, KiB or bytes
	Flag     string   // of register and run-single, without dashes; empty when there is none
	Aliases  []string // other names of the flag
	Env      string   // environment variable of the flag; empty when there is none
	Doc      string   // one sentence
	Allowed  []string // the values allowed; empty when anything is
	Required bool     // the runner does not work without it
	Secret   bool     // the value must not be shown
	Bool     bool     // the flag needs no value
	List     bool     // the flag may be repeated
	Ours     bool     // GitLab Runner does not know the key
	Table    bool     // the key is a table or a list of tables
}

// Fields returns all keys in the order of their documentation: tables before
// the keys in them. Tables that contain themselves do not exist.
func Fields() []Field {
	var out []Field
	walkFields(reflect.TypeFor[Config](), place{}, &out)
	return out
}

func walkFields(t reflect.Type, p place, out *[]Field) {
	fields := fieldsOf(t)
	for _, tables := range []bool{false, true} {
		for _, f := range fields {
			if f.isTable() != tables {
				continue
			}
			at := p.child(f.name)
			*out = append(*out, f.describe(at.key))
			if s := f.structType(); s != nil {
				walkFields(s, at, out)
			}
		}
	}
}

// structField is a field of a struct with what its tags say.
type structField struct {
	name      string
	index     []int
	typ       reflect.Type
	flag      string
	alias     string
	env       string
	byDefault string
	allowed   []string
	unit      string
	doc       string
	required  bool
	private   bool
	ours      bool
}

// fieldsOf returns the fields of a struct that are keys of the file.
func fieldsOf(t reflect.Type) []structField {
	out := make([]structField, 0, t.NumField())
	for f := range t.Fields() {
		name := f.Tag.Get("toml")
		if name == "" || name == "-" {
			continue
		}
		s := structField{
			name: name, index: f.Index, typ: f.Type,
			flag: f.Tag.Get("flag"), alias: f.Tag.Get("alias"), env: f.Tag.Get("env"),
			byDefault: f.Tag.Get("default"), unit: f.Tag.Get("unit"), doc: f.Tag.Get("doc"),
			required: f.Tag.Get("required") != "", private: f.Tag.Get("private") != "", ours: f.Tag.Get("ours") != "",
		}
		if allowed := f.Tag.Get("allowed"); allowed != "" {
			s.allowed = strings.Split(allowed, "|")
		}
		out = append(out, s)
	}
	return out
}

// findField returns the index of the field for a key: the one of that name,
// else one that differs in upper and lower case only, else -1.
func findField(fields []structField, key string) int {
	if i := slices.IndexFunc(fields, func(f structField) bool { return f.name == key }); i >= 0 {
		return i
	}
	return slices.IndexFunc(fields, func(f structField) bool { return strings.EqualFold(f.name, key) })
}

// hidden says whether values of the key must not be shown.
func (f structField) hidden() bool {
	return f.private || f.typ == typeSecret() || f.typ.Kind() == reflect.Map && f.typ.Elem() == typeSecret()
}

// structType returns the struct of a table or of a list of tables, or nil.
func (f structField) structType() reflect.Type {
	t := f.typ
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == typeTime() {
		return nil
	}
	return t
}

// isTable says whether the key is written as a table with a header.
func (f structField) isTable() bool { return f.structType() != nil || f.typ.Kind() == reflect.Map }

func (f structField) describe(path string) Field {
	out := Field{
		Path: path, Type: typeName(f.typ), Default: f.byDefault, Unit: f.unit, Flag: f.flag, Env: f.env, Doc: f.doc,
		Allowed: f.allowed, Required: f.required, Secret: f.hidden(), Ours: f.ours, Table: f.isTable(),
		Bool: indirect(f.typ).Kind() == reflect.Bool,
		List: f.typ.Kind() == reflect.Slice || f.typ.Kind() == reflect.Map,
	}
	if f.alias != "" {
		out.Aliases = strings.Split(f.alias, "|")
	}
	return out
}

func indirect(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// typeName returns a type as a person would name it.
func typeName(t reflect.Type) string {
	switch t {
	case typeDuration():
		return "duration"
	case typeTime():
		return "date and time"
	case typePolicies():
		return "string or list of strings"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Interface:
		return "anything"
	case reflect.Struct:
		return "table"
	case reflect.Slice:
		return "list of " + plural(typeName(t.Elem()))
	case reflect.Map:
		return "table of " + plural(typeName(t.Elem()))
	default:
		return t.String()
	}
}

func plural(name string) string {
	if name == "anything" {
		return name
	}
	if rest, ok := strings.CutPrefix(name, "list of "); ok {
		return "lists of " + rest
	}
	return name + "s"
}
