package coordinator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/glassrunner/glassrunner/internal/job"
)

type wireInput struct {
	Key   text `json:"key"`
	Value struct {
		Type      text            `json:"type"`
		Content   json.RawMessage `json:"content"`
		Sensitive flag            `json:"sensitive"`
	} `json:"value"`
}

// inputs are checked strictly: they are put into scripts.
func (w *wireJob) inputs(s *job.Spec) error {
	var inputs []wireInput
	if err := section("inputs", w.Inputs, &inputs); err != nil {
		return err
	}
	kinds := map[text]string{
		"string": "string", "number": "number", "boolean": "boolean", "array": "array", "struct": "object",
	}
	for i, in := range inputs {
		if in.Key == "" {
			return fmt.Errorf("inputs: number %d has no key", i+1)
		}
		kind, known := kinds[in.Value.Type]
		got := kindOf(in.Value.Content)
		switch {
		case !known:
			return fmt.Errorf("inputs: %q has an unknown type", oneLine(string(in.Key), 100))
		case got != kind:
			return fmt.Errorf("inputs: %q: want %s, got %s", oneLine(string(in.Key), 100), kind, got)
		}
		dec := json.NewDecoder(bytes.NewReader(in.Value.Content))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			return fmt.Errorf("inputs: %q: %w", oneLine(string(in.Key), 100), plain(err))
		}
		s.Inputs = append(s.Inputs, job.Input{
			Key: string(in.Key), Type: string(in.Value.Type), Content: v, Sensitive: bool(in.Value.Sensitive),
		})
	}
	return nil
}

type wireImage struct {
	Name         text            `json:"name"`
	Alias        list            `json:"alias"`
	Entrypoint   list            `json:"entrypoint"`
	Command      list            `json:"command"`
	Variables    json.RawMessage `json:"variables"`
	PullPolicy   list            `json:"pull_policy"`
	ExecutorOpts json.RawMessage `json:"executor_opts"`
}

func (w *wireJob) images(s *job.Spec) error {
	var image wireImage
	if err := section("image", w.Image, &image); err != nil {
		return err
	}
	var err error
	if s.Image, err = image.image("image", &s.Unsupported); err != nil {
		return err
	}
	var services []wireImage
	if err := section("services", w.Services, &services); err != nil {
		return err
	}
	for i, service := range services {
		img, err := service.image(fmt.Sprintf("services[%d]", i), &s.Unsupported)
		if err != nil {
			return err
		}
		if img.Name != "" {
			s.Services = append(s.Services, img)
		}
	}
	return nil
}

func (w wireImage) image(at string, unsupported *[]string) (job.Image, error) {
	img := job.Image{Name: string(w.Name), Entrypoint: w.Entrypoint, Command: w.Command, PullPolicy: w.PullPolicy}
	for _, a := range w.Alias {
		img.Aliases = append(img.Aliases, strings.FieldsFunc(a, func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	var err error
	if img.Variables, err = variables(at+".variables", w.Variables); err != nil {
		return img, err
	}
	at += ".executor_opts"
	for _, o := range options(at, w.ExecutorOpts, unsupported) {
		known := o.key == "docker" || o.key == "kubernetes"
		if !known {
			*unsupported = append(*unsupported, at+"."+oneLine(o.key, 100))
			continue
		}
		for _, inner := range options(at+"."+o.key, o.value, unsupported) {
			var v text
			bad := v.UnmarshalJSON(inner.value) != nil
			switch o.key + "." + inner.key {
			case "docker.platform":
				img.Platform = string(v)
			case "docker.user":
				img.User = string(v)
			case "kubernetes.user":
				img.KubernetesUser = string(v)
			default:
				bad = true
			}
			if bad {
				*unsupported = append(*unsupported, at+"."+o.key+"."+oneLine(inner.key, 100))
			}
		}
	}
	return img, nil
}

type option struct {
	key   string
	value json.RawMessage
}

// options returns the members of an object in order. What is no object cannot
// be understood, hence is not supported.
func options(at string, raw json.RawMessage, unsupported *[]string) []option {
	if raw == nil || kindOf(raw) == "null" {
		return nil
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		*unsupported = append(*unsupported, at)
		return nil
	}
	out := make([]option, 0, len(m))
	for k, v := range m {
		out = append(out, option{key: k, value: v})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].key < out[j].key })
	return out
}
