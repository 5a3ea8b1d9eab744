package config

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// kind is the type of a value in the file.
type kind int

const (
	kindString kind = iota
	kindInteger
	kindFloat
	kindBool
	kindTime
	kindArray
	kindTable
)

// String returns the kind as a person would name it.
func (k kind) String() string {
	return [...]string{"string", "integer", "float", "boolean", "date and time", "list", "table"}[k]
}

// node is a value with its place in the file.
type node struct {
	kind  kind
	local bool // a date or time without zone
	text  string
	start int // offsets of the value; of the header for a table with one
	end   int

	entries  []entry // of a table, in order
	index    map[string]*node
	elements []*node // of an array

	header   bool // a table that has its own [header]
	dotted   bool // a table made by a dotted key
	inline   bool // a table in braces or a list in brackets: closed
	ofTables bool // an array made by [[header]]
}

// entry is a key of a table.
type entry struct {
	name  string
	start int // offset of the key
	value *node
}

// get returns the value of the key, or nil.
func (n *node) get(name string) *node { return n.index[name] }

// add appends a key to a table.
func (n *node) add(part keyPart, value *node) {
	if n.index == nil {
		n.index = make(map[string]*node)
	}
	n.index[part.name] = value
	n.entries = append(n.entries, entry{part.name, part.start, value})
}

// section is a header with the key-value lines below it, or those before the
// first header.
type section struct {
	path   []string // the keys of the header
	table  *node
	list   bool // a [[header]]
	start  int  // offset of the opening bracket
	header int  // offset of the end of the header
	lines  []keyLine
}

// keyLine is a key-value expression of a section.
type keyLine struct {
	path       []string
	start      int // offset of the key
	valueStart int
	end        int // offset of the end of the value
}

// document is a parsed file that remembers where everything is.
type document struct {
	data     []byte
	root     *node
	sections []section
	newlines []int // offsets
	problems []Problem
	strictly *Problem // what only the decoder found
}

// mostSyntaxErrors is how many syntax errors are reported before the rest of
// the file is left alone.
const mostSyntaxErrors = 20

const byteOrderMark = "\xef\xbb\xbf"

// parseDocument parses TOML. Syntax errors become problems; the lines that
// have none are parsed all the same.
func parseDocument(data []byte) *document {
	d := &document{data: data, root: &node{kind: kindTable, header: true}}
	for i, b := range data {
		if b == '\n' {
			d.newlines = append(d.newlines, i)
		}
	}
	d.sections = []section{{table: d.root}}
	base := 0
	if bytes.HasPrefix(data, []byte(byteOrderMark)) {
		base = len(byteOrderMark)
	}
	if at := invalidUTF8(data); at >= 0 {
		d.problem(at, "", "a byte that is not UTF-8; save the file as UTF-8")
		return d
	}
	var p unstable.Parser
	for range mostSyntaxErrors {
		p.Reset(data[base:])
		for p.NextExpression() {
			d.expression(p.Expression(), base)
		}
		next, again := d.syntaxError(p.Error(), base)
		if !again {
			break
		}
		base = next
	}
	if len(d.problems) == 0 {
		d.strict()
	}
	return d
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// syntaxError records where the parser stopped and returns where it can go on:
// at the next line.
func (d *document) syntaxError(err error, base int) (next int, again bool) {
	if err == nil {
		return 0, false
	}
	at := len(d.data)
	text := err.Error()
	if parse, ok := errors.AsType[*unstable.ParserError](err); ok {
		text = parse.Message
		if rest := cap(d.data) - cap(parse.Highlight); parse.Highlight != nil && rest >= base && rest <= len(d.data) {
			at = rest
		}
	}
	lineStart := bytes.LastIndexByte(d.data[:at], '\n') + 1
	line, _, _ := bytes.Cut(d.data[lineStart:], []byte("\n"))
	if bytes.HasPrefix(bytes.TrimSpace(line), []byte("[")) {
		// The lines below a broken header must not land in the table above it.
		d.sections = append(d.sections, section{table: &node{kind: kindTable}, start: lineStart, header: lineStart + len(line)})
	}
	key := ""
	if name, value, ok := bytes.Cut(line, []byte("=")); ok && at-lineStart > len(name) {
		key = bareKey(name)
		if value = bytes.TrimSpace(value); len(value) > 0 && bareKey(value[:1]) != "" && key != "" {
			text = "the value is not TOML: text needs quotes, as in " + key + ` = "text"`
		}
	}
	d.problem(at, key, "syntax error: "+text)
	end := bytes.IndexByte(d.data[at:], '\n')
	if end < 0 {
		return 0, false
	}
	return at + end + 1, true
}

// bareKey returns the key without the spaces around it, or nothing if it is no
// bare key.
func bareKey(b []byte) string {
	b = bytes.TrimSpace(b)
	for _, c := range b {
		if c != '_' && c != '-' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return ""
		}
	}
	return string(b)
}

// strict lets the decoder find what the parser accepts though it is no TOML,
// such as numbers out of range and days that do not exist.
func (d *document) strict() {
	var all map[string]any
	err := toml.Unmarshal(bytes.TrimPrefix(d.data, []byte(byteOrderMark)), &all)
	if err == nil {
		return
	}
	text := strings.TrimPrefix(err.Error(), "toml: ")
	p := Problem{Severity: Error, Text: text}
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		p.Line, p.Column = decode.Position()
		p.Key = strings.Join(decode.Key(), ".")
	}
	d.strictly = &p
}

// expression adds one line or one header to the tree.
func (d *document) expression(e *unstable.Node, base int) {
	switch e.Kind {
	case unstable.KeyValue:
		d.keyValue(e, base)
	case unstable.Table, unstable.ArrayTable:
		d.header(e, base)
	}
}

// keyPart is one part of a dotted key.
type keyPart struct {
	name  string
	start int
	end   int
}

func keyParts(it unstable.Iterator, base int) []keyPart {
	var parts []keyPart
	for it.Next() {
		n := it.Node()
		start := base + int(n.Raw.Offset)
		parts = append(parts, keyPart{string(n.Data), start, start + int(n.Raw.Length)})
	}
	return parts
}

func names(parts []keyPart) []string {
	out := make([]string, len(parts))
	for i, p := range parts {
		out[i] = p.name
	}
	return out
}

// header opens a table. A table that cannot be opened gets a node of its own,
// so that the lines below it do not land in another one.
func (d *document) header(e *unstable.Node, base int) {
	parts := keyParts(e.Key(), base)
	list := e.Kind == unstable.ArrayTable
	last := parts[len(parts)-1]
	start := bytes.LastIndexByte(d.data[:parts[0].start], '[')
	if list && start > 0 {
		start--
	}
	end := last.end + bytes.IndexByte(d.data[last.end:], ']') + 1
	if list {
		end++
	}
	table := d.openTable(parts, list, start)
	if table == nil {
		table = &node{kind: kindTable, header: true, start: start}
	}
	d.sections = append(d.sections, section{path: names(parts), table: table, list: list, start: start, header: end})
}

func (d *document) openTable(parts []keyPart, list bool, start int) *node {
	key := strings.Join(names(parts), ".")
	at := d.root
	for _, part := range parts[:len(parts)-1] {
		next := at.get(part.name)
		switch {
		case next == nil:
			next = &node{kind: kindTable, start: start}
			at.add(part, next)
		case next.kind == kindArray && next.ofTables:
			next = next.elements[len(next.elements)-1]
		case next.kind != kindTable || next.inline:
			d.problem(part.start, key, fmt.Sprintf("%s is a %s (line %d), so there can be no table inside it", part.name, next.kind, d.line(next.start)))
			return nil
		}
		at = next
	}
	last := parts[len(parts)-1]
	old := at.get(last.name)
	if list {
		if old == nil {
			old = &node{kind: kindArray, ofTables: true, start: start}
			at.add(last, old)
		}
		if !old.ofTables {
			d.problem(last.start, key, fmt.Sprintf("[[%s]] starts a list entry, but %s is a %s (line %d)", key, last.name, old.kind, d.line(old.start)))
			return nil
		}
		table := &node{kind: kindTable, header: true, start: start}
		old.elements = append(old.elements, table)
		return table
	}
	switch {
	case old == nil:
		table := &node{kind: kindTable, header: true, start: start}
		at.add(last, table)
		return table
	case old.kind == kindTable && !old.header && !old.inline && !old.dotted:
		old.header = true
		old.start = start
		return old
	case old.ofTables:
		d.problem(last.start, key, fmt.Sprintf("[%s] is a single table, but it is a list since line %d: write [[%s]]", key, d.line(old.start), key))
	default:
		d.problem(last.start, key, fmt.Sprintf("given twice, first on line %d", d.line(old.start)))
	}
	return nil
}

func (d *document) keyValue(e *unstable.Node, base int) {
	parts := keyParts(e.Key(), base)
	s := &d.sections[len(d.sections)-1]
	start := base + int(e.Raw.Offset)
	line := keyLine{
		path:       names(parts),
		start:      start,
		valueStart: valueStart(d.data, parts[len(parts)-1].end),
		end:        start + int(e.Raw.Length),
	}
	s.lines = append(s.lines, line)
	v := d.value(e.Value(), base)
	v.start, v.end = line.valueStart, line.end
	d.put(s.table, parts, v)
}

// valueStart returns the offset of the value whose key ends at end.
func valueStart(data []byte, end int) int {
	i := end + bytes.IndexByte(data[end:], '=') + 1
	for i < len(data) && (data[i] == ' ' || data[i] == '\t') {
		i++
	}
	return i
}

// put stores a value under a dotted key.
func (d *document) put(table *node, parts []keyPart, v *node) {
	key := strings.Join(names(parts), ".")
	for _, part := range parts[:len(parts)-1] {
		next := table.get(part.name)
		switch {
		case next == nil:
			next = &node{kind: kindTable, dotted: true, start: part.start}
			table.add(part, next)
		case next.kind != kindTable || !next.dotted:
			d.problem(part.start, key, fmt.Sprintf("%s is given on line %d already and cannot be extended here", part.name, d.line(next.start)))
			return
		}
		table = next
	}
	last := parts[len(parts)-1]
	if old := table.get(last.name); old != nil {
		d.problem(last.start, key, fmt.Sprintf("given twice, first on line %d", d.line(old.start)))
		return
	}
	table.add(last, v)
}

// value converts a value. Lists and tables have no offsets of their own in the
// parser; those of their first content stand in for them.
func (d *document) value(v *unstable.Node, base int) *node {
	n := &node{text: string(v.Data), start: base + int(v.Raw.Offset)}
	n.end = n.start + int(v.Raw.Length)
	switch v.Kind {
	case unstable.String:
		n.kind = kindString
	case unstable.Bool:
		n.kind = kindBool
	case unstable.Integer:
		n.kind = kindInteger
	case unstable.Float:
		n.kind = kindFloat
	case unstable.DateTime:
		n.kind = kindTime
	case unstable.LocalDate, unstable.LocalTime, unstable.LocalDateTime:
		n.kind, n.local = kindTime, true
	case unstable.Array:
		n.kind, n.inline, n.text, n.start = kindArray, true, "", 0
		for it := v.Children(); it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			n.elements = append(n.elements, d.value(it.Node(), base))
		}
		if len(n.elements) > 0 {
			n.start = n.elements[0].start
		}
	case unstable.InlineTable:
		n.kind, n.inline, n.text = kindTable, true, ""
		for it := v.Children(); it.Next(); {
			e := it.Node()
			if e.Kind != unstable.KeyValue {
				continue
			}
			parts := keyParts(e.Key(), base)
			d.put(n, parts, d.value(e.Value(), base))
		}
	}
	return n
}

// problem records an error at an offset.
func (d *document) problem(offset int, key, text string) {
	line, column := d.position(offset)
	d.problems = append(d.problems, Problem{Severity: Error, Line: line, Column: column, Key: key, Text: text})
}

// line returns the line of an offset, from 1.
func (d *document) line(offset int) int { return 1 + sort.SearchInts(d.newlines, offset) }

// position returns line and column of an offset, both from 1; columns count
// characters.
func (d *document) position(offset int) (line, column int) {
	line = d.line(offset)
	start := 0
	if line > 1 {
		start = d.newlines[line-2] + 1
	}
	return line, utf8.RuneCount(d.data[start:min(offset, len(d.data))]) + 1
}

// equal says whether two trees hold the same values, whatever their layout.
func equal(a, b *node) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.kind != b.kind || a.text != b.text || len(a.entries) != len(b.entries) || len(a.elements) != len(b.elements) {
		return false
	}
	for i, x := range a.elements {
		if !equal(x, b.elements[i]) {
			return false
		}
	}
	for _, e := range a.entries {
		if !equal(e.value, b.get(e.name)) {
			return false
		}
	}
	return true
}

// integer returns the value of an integer node.
func (n *node) integer() (int64, error) {
	text := strings.ReplaceAll(n.text, "_", "")
	for prefix, base := range map[string]int{"0x": 16, "0o": 8, "0b": 2} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			return strconv.ParseInt(rest, base, 64)
		}
	}
	return strconv.ParseInt(text, 10, 64)
}

// float returns the value of a float or integer node.
func (n *node) float() (float64, error) {
	if n.kind == kindInteger {
		i, err := n.integer()
		return float64(i), err
	}
	return strconv.ParseFloat(strings.ReplaceAll(n.text, "_", ""), 64)
}
