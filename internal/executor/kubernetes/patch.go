package kubernetes

import (
	"encoding/json"
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/glassrunner/glassrunner/internal/config"
)

// patched applies the patches of the configuration, in order.
func patched(spec corev1.PodSpec, patches []config.PodSpecPatch) (corev1.PodSpec, error) {
	if len(patches) == 0 {
		return spec, nil
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return spec, err
	}
	for i, p := range patches {
		if text, err = apply(text, p); err != nil {
			return spec, fmt.Errorf("pod_spec[%d] %q: %w", i, p.Name, err)
		}
	}
	var out corev1.PodSpec
	if err := json.Unmarshal(text, &out); err != nil {
		return spec, fmt.Errorf("the patched pod: %w", err)
	}
	return out, nil
}

func apply(text []byte, p config.PodSpecPatch) ([]byte, error) {
	source := []byte(p.Patch)
	if p.PatchPath != "" {
		var err error
		if source, err = os.ReadFile(p.PatchPath); err != nil {
			return nil, err
		}
	}
	var parsed any
	if err := yaml.Unmarshal(source, &parsed); err != nil { // JSON is YAML
		return nil, err
	}
	if parsed == nil {
		return text, nil
	}
	patch, err := json.Marshal(parsed)
	if err != nil {
		return nil, err
	}
	switch p.PatchType {
	case "json":
		list, err := jsonpatch.DecodePatch(patch)
		if err != nil {
			return nil, err
		}
		return list.Apply(text)
	case "merge":
		return jsonpatch.MergePatch(text, patch)
	}
	return strategicpatch.StrategicMergePatch(text, patch, corev1.PodSpec{})
}
