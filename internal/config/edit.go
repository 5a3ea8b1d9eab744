package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// lockWait is how long an edit waits for another one.
const lockWait = 10 * time.Second

// newFile is what a new configuration begins with, as in GitLab Runner.
const newFile = "concurrent = 1\ncheck_interval = 0\n\n[session_server]\n  session_timeout = 1800\n"

// AddRunner appends the runner to the file, which it creates with mode 0600
// (its directory with 0700) when it does not exist. Every other byte of the
// file stays as it is. The change is atomic, keeps mode and owner, and waits
// for other edits. The file is left alone when it is no valid TOML or when the
// result would not mean what it should.
func AddRunner(path string, r Runner) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("saving the configuration: %w", err)
	}
	return edit(path, func(data []byte) ([]byte, error) {
		if len(bytes.TrimSpace(data)) == 0 {
			data = []byte(newFile)
		}
		before, err := editable(data)
		if err != nil {
			return nil, err
		}
		name := before.runnersKey()
		block := encodeRunner(name, &r)
		added := parseDocument([]byte(block))
		if len(added.problems) > 0 {
			return nil, errNotAsMeant
		}
		end := lineEnding(data)
		var out bytes.Buffer
		out.Write(data)
		if !bytes.HasSuffix(data, []byte("\n")) {
			out.WriteString(end)
		}
		out.WriteString(end + strings.ReplaceAll(block, "\n", end))
		want := before.root.with(name, func(list *node) *node {
			grown := &node{kind: kindArray}
			if list != nil {
				grown.elements = slices.Clone(list.elements)
			}
			grown.elements = append(grown.elements, added.root.get(name).elements...)
			return grown
		})
		return out.Bytes(), asMeant(out.Bytes(), want)
	})
}

// RemoveRunners removes the runners that match from the file, together with
// the comments that touch them, and returns how many there were. Everything
// else stays as it is; see [AddRunner]. match sees runners with variables of
// the environment replaced.
func RemoveRunners(path string, match func(*Runner) bool) (int, error) {
	removed := 0
	err := edit(path, func(data []byte) ([]byte, error) {
		before, hits, err := matching(path, data, match)
		if err != nil || len(hits) == 0 {
			return data, err
		}
		removed = len(hits)
		name := before.runnersKey()
		var cuts []span
		index := -1
		for i, s := range before.sections {
			if len(s.path) == 0 || s.path[0] != name {
				continue
			}
			if s.list && len(s.path) == 1 {
				index++
			}
			if slices.Contains(hits, index) {
				cuts = append(cuts, before.extent(i))
			}
		}
		out := cut(data, cuts)
		want := before.root.with(name, func(list *node) *node {
			rest := &node{kind: kindArray}
			for i, e := range list.elements {
				if !slices.Contains(hits, i) {
					rest.elements = append(rest.elements, e)
				}
			}
			if len(rest.elements) == 0 {
				return nil
			}
			return rest
		})
		return out, asMeant(out, want)
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

// UpdateToken gives the runners that match another token and its times (zero
// for a token that never expires), and returns how many there were. Everything
// else stays as it is; see [AddRunner].
func UpdateToken(path string, match func(*Runner) bool, token string, obtainedAt, expiresAt time.Time) (int, error) {
	keys := []string{"token", "token_obtained_at", "token_expires_at"}
	values := []string{encodeString(token), encodeTime(obtainedAt), encodeTime(expiresAt)}
	updated := 0
	err := edit(path, func(data []byte) ([]byte, error) {
		before, hits, err := matching(path, data, match)
		if err != nil || len(hits) == 0 {
			return data, err
		}
		updated = len(hits)
		name := before.runnersKey()
		var changes []change
		index := -1
		for _, s := range before.sections {
			if len(s.path) == 1 && s.path[0] == name && s.list {
				index++
				if slices.Contains(hits, index) {
					changes = append(changes, before.setKeys(s, keys, values)...)
				}
			}
		}
		out := apply(data, changes)
		fresh := parseDocument([]byte(keys[0] + "=" + values[0] + "\n" + keys[1] + "=" + values[1] + "\n" + keys[2] + "=" + values[2])).root
		want := before.root.with(name, func(list *node) *node {
			all := &node{kind: kindArray, elements: slices.Clone(list.elements)}
			for _, i := range hits {
				for _, key := range keys {
					all.elements[i] = all.elements[i].with(spelling(all.elements[i], key), func(*node) *node { return fresh.get(key) })
				}
			}
			return all
		})
		return out, asMeant(out, want)
	})
	if err != nil {
		return 0, err
	}
	return updated, nil
}

// errNotAsMeant says that an edit was given up.
var errNotAsMeant = errors.New("the edited file would not mean what it should; it was left as it is, edit it by hand")

// edit changes the content of a file under a lock.
func edit(path string, change func([]byte) ([]byte, error)) error {
	target, err := resolveLink(path)
	if err != nil {
		return fmt.Errorf("saving the configuration: %w", err)
	}
	unlock, err := lockDir(filepath.Dir(target), lockWait)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("saving the configuration: %w", err)
	}
	if err != nil {
		return fmt.Errorf("saving %s: %w", path, err)
	}
	defer unlock()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("saving the configuration: %w", err)
	}
	changed, err := change(slices.Clip(data))
	if err != nil {
		return fmt.Errorf("saving %s: %w", path, err)
	}
	if bytes.Equal(changed, data) {
		return nil
	}
	if err := replaceFile(path, changed, os.Rename); err != nil {
		return fmt.Errorf("saving the configuration: %w", err)
	}
	return nil
}

// editable parses a file that is going to be edited.
func editable(data []byte) (*document, error) {
	d := parseDocument(data)
	if d.strictly != nil {
		d.problems = append(d.problems, *d.strictly)
	}
	if len(d.problems) > 0 {
		p := d.problems[0]
		return nil, fmt.Errorf("line %d: %s", p.Line, p.Text)
	}
	if list := d.root.get(d.runnersKey()); list != nil && !list.ofTables {
		return nil, errors.New("runners is written as a list in brackets; only [[runners]] entries can be edited")
	}
	return d, nil
}

// matching returns the indexes of the runners that match.
func matching(path string, data []byte, match func(*Runner) bool) (*document, []int, error) {
	before, err := editable(data)
	if err != nil {
		return nil, nil, err
	}
	cfg, _, _ := Parse(path, data, Options{}) // Wrong values do not keep the file from being edited.
	var hits []int
	for i := range cfg.Runners {
		if match(&cfg.Runners[i]) {
			hits = append(hits, i)
		}
	}
	return before, hits, nil
}

// asMeant says whether the edited content has the meaning that it should.
func asMeant(edited []byte, want *node) error {
	after := parseDocument(edited)
	if len(after.problems) > 0 || after.strictly != nil || !equal(after.root, want) {
		return errNotAsMeant
	}
	return nil
}

// runnersKey returns how the file spells the key of its runners.
func (d *document) runnersKey() string { return spelling(d.root, "runners") }

// spelling returns how a table spells a key.
func spelling(table *node, key string) string {
	if table.get(key) != nil {
		return key
	}
	for _, e := range table.entries {
		if strings.EqualFold(e.name, key) {
			return e.name
		}
	}
	return key
}

// with returns a copy of a table in which the value of the key is another one,
// or is missing when that is nil.
func (n *node) with(key string, change func(old *node) *node) *node {
	out := *n
	out.entries, out.index = nil, nil
	for _, e := range n.entries {
		if e.name != key {
			out.add(keyPart{name: e.name, start: e.start}, e.value)
		}
	}
	if v := change(n.get(key)); v != nil {
		out.add(keyPart{name: key}, v)
	}
	return &out
}

// span is a range of bytes.
type span struct{ from, to int }

// change replaces a range of bytes.
type change struct {
	span
	text string
}

// setKeys returns the changes that set keys of a section: values are replaced
// where they are, missing keys follow the last one found, or the header.
func (d *document) setKeys(s section, keys, values []string) []change {
	var changes []change
	indent := "  "
	after := s.header
	if len(s.lines) > 0 {
		indent = string(d.data[d.lineStart(s.lines[0].start):s.lines[0].start])
	}
	var missing strings.Builder
	end := lineEnding(d.data)
	for i, key := range keys {
		name := spelling(s.table, key)
		at := slices.IndexFunc(s.lines, func(l keyLine) bool { return len(l.path) == 1 && l.path[0] == name })
		if at < 0 {
			missing.WriteString(indent + key + " = " + values[i] + end)
			continue
		}
		line := s.lines[at]
		changes = append(changes, change{span{line.valueStart, line.end}, values[i]})
		after = max(after, line.end)
	}
	if missing.Len() == 0 {
		return changes
	}
	text := missing.String()
	at := d.lineEnd(after)
	if at == len(d.data) && !bytes.HasSuffix(d.data, []byte("\n")) {
		text = end + strings.TrimSuffix(text, end)
	}
	return append(changes, change{span{at, at}, text})
}

// apply makes changes that do not overlap.
func apply(data []byte, changes []change) []byte {
	slices.SortStableFunc(changes, func(a, b change) int { return a.from - b.from })
	var out bytes.Buffer
	at := 0
	for _, c := range changes {
		out.Write(data[at:c.from])
		out.WriteString(c.text)
		at = c.to
	}
	out.Write(data[at:])
	return out.Bytes()
}

// cut removes ranges.
func cut(data []byte, spans []span) []byte {
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	var out []byte
	at := 0
	for _, s := range spans {
		if s.from > at {
			out = append(out, data[at:s.from]...)
		}
		at = max(at, s.to)
	}
	return append(out, data[at:]...)
}

// extent returns the bytes that belong to a section: the comment lines right
// above its header, unless the file begins with them; the header and its keys;
// the comment lines right below, unless the next header follows them at once;
// and the blank lines after all that, or before it at the end of the file.
func (d *document) extent(i int) span {
	s := d.sections[i]
	floor := 0
	if end := d.sections[i-1].end(); end > 0 {
		floor = d.lineEnd(end)
	}
	from := d.lineStart(s.start)
	above := from
	for above > floor && d.isComment(d.lineStart(above-1)) {
		above = d.lineStart(above - 1)
	}
	if above > 0 {
		from = above
	}
	ceiling := len(d.data)
	if i+1 < len(d.sections) {
		ceiling = d.lineStart(d.sections[i+1].start)
	}
	to := d.lineEnd(s.end())
	below := to
	for below < ceiling && d.isComment(below) {
		below = d.lineEnd(below)
	}
	if below < ceiling || ceiling == len(d.data) {
		to = below
	}
	for to < ceiling && d.isBlank(to) {
		to = d.lineEnd(to)
	}
	if to == len(d.data) {
		for from > floor && d.isBlank(d.lineStart(from-1)) {
			from = d.lineStart(from - 1)
		}
	}
	return span{from, to}
}

// end returns the offset of the end of the last key of a section.
func (s section) end() int {
	if len(s.lines) == 0 {
		return s.header
	}
	return s.lines[len(s.lines)-1].end
}

// lineStart returns the offset of the first byte of the line.
func (d *document) lineStart(offset int) int {
	return bytes.LastIndexByte(d.data[:offset], '\n') + 1
}

// lineEnd returns the offset after the line.
func (d *document) lineEnd(offset int) int {
	if i := bytes.IndexByte(d.data[offset:], '\n'); i >= 0 {
		return offset + i + 1
	}
	return len(d.data)
}

func (d *document) isComment(offset int) bool {
	return bytes.HasPrefix(bytes.TrimSpace(d.data[offset:d.lineEnd(offset)]), []byte("#"))
}

func (d *document) isBlank(offset int) bool {
	return len(bytes.TrimSpace(d.data[offset:d.lineEnd(offset)])) == 0
}

// lineEnding returns the line ending of a file.
func lineEnding(data []byte) string {
	if i := bytes.IndexByte(data, '\n'); i > 0 && data[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}
