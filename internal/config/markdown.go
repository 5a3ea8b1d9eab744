package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
)

// Markdown writes the reference of config.toml: a section for each table with
// all its keys, and the feature flags.
func Markdown(w io.Writer) error {
	var b strings.Builder
	markdownTable(&b, reflect.TypeFor[Config](), place{}, "", false)
	b.WriteString("## Feature flags\n\n")
	b.WriteString("Set in `[runners.feature_flags]` or, except for those marked *configuration only*, as a variable of a job; the configuration wins.\n\n")
	b.WriteString("| Flag | Default | In glassrunner | Meaning |\n|---|---|---|---|\n")
	for _, f := range FeatureFlags() {
		status := f.Status.String()
		if f.ConfigOnly {
			status += ", configuration only"
		}
		fmt.Fprintf(&b, "| `%s` | %t | %s | %s |\n", f.Name, f.Default, status, cell(f.Doc))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func markdownTable(b *strings.Builder, t reflect.Type, p place, doc string, list bool) {
	switch {
	case p.key == "":
		b.WriteString("## Top of the file\n\n")
	case list:
		fmt.Fprintf(b, "## `[[%s]]`\n\n", p.key)
	default:
		fmt.Fprintf(b, "## `[%s]`\n\n", p.key)
	}
	if doc != "" {
		b.WriteString(doc + "\n\n")
	}
	fields := fieldsOf(t)
	b.WriteString("| Key | Type | Default | Meaning | Flag, variable |\n|---|---|---|---|---|\n")
	for _, f := range fields {
		if f.structType() != nil {
			continue
		}
		d := f.describe(p.child(f.name).key)
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", f.name, d.markdownType(), code(d.Default), cell(d.meaning()), d.markdownFlag())
	}
	for _, f := range fields {
		if s := f.structType(); s != nil {
			fmt.Fprintf(b, "| [`%s`](#%s) | table | | %s | |\n", f.name, anchor(p.child(f.name).key), cell(f.doc))
		}
	}
	b.WriteString("\n")
	for _, f := range fields {
		if s := f.structType(); s != nil {
			markdownTable(b, s, p.child(f.name), f.doc, f.typ.Kind() == reflect.Slice)
		}
	}
}

func (f Field) markdownType() string {
	if f.Unit != "" {
		return fmt.Sprintf("%s (%s)", f.Type, f.Unit)
	}
	return f.Type
}

// meaning returns the doc with what is allowed.
func (f Field) meaning() string {
	text := f.Doc
	if len(f.Allowed) > 0 {
		text += " One of `" + strings.Join(f.Allowed, "`, `") + "`."
	}
	if f.Required {
		text += " Required."
	}
	if f.Ours {
		text += " Only in glassrunner; GitLab Runner ignores it."
	}
	return text
}

func (f Field) markdownFlag() string {
	var parts []string
	if f.Flag != "" {
		parts = append(parts, code("--"+f.Flag))
	}
	for _, alias := range f.Aliases {
		parts = append(parts, code("--"+alias))
	}
	if f.Env != "" {
		parts = append(parts, code(f.Env))
	}
	return strings.Join(parts, ", ")
}

// anchor returns the anchor that renderers of Markdown give the heading of a
// table.
func anchor(key string) string {
	return strings.ReplaceAll(strings.ToLower(key), ".", "")
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + cell(text) + "`"
}

// cell escapes what would end a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
