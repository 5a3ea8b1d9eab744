package coordinator

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/glassrunner/glassrunner/internal/job"
)

// salvage looks for a job's number and token in a payload that cannot be
// decoded, also in the part of one that broke off.
func salvage(body []byte) (id job.ID, token job.Secret, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return 0, "", false
	}
	for level := 1; level > 0; {
		t, err := dec.Token()
		if err != nil {
			break
		}
		if d, delim := t.(json.Delim); delim {
			if d == '{' || d == '[' {
				level++
			} else {
				level--
			}
			continue
		}
		if level != 1 {
			continue
		}
		// On the first level, names and values take turns.
		name, _ := t.(string)
		value, err := dec.Token()
		if err != nil {
			break
		}
		switch v := value.(type) {
		case json.Delim:
			level++
		case json.Number:
			if n, err := v.Int64(); name == "id" && err == nil && id == 0 {
				id = job.ID(n)
			}
		case string:
			if name == "token" && token == "" {
				token = job.Secret(v)
			}
			if n, err := strconv.ParseInt(v, 10, 64); name == "id" && err == nil && id == 0 {
				id = job.ID(n)
			}
		}
		if id > 0 && token != "" {
			return id, token, true
		}
	}
	return 0, "", false
}
