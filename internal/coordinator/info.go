package coordinator

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/glassrunner/glassrunner/internal/version"
)

// MaxRequestBody is the largest body of POST jobs/request that coordinators
// take, in bytes.
const MaxRequestBody = 32 << 10

// maxLastUpdate bounds what is kept of X-GitLab-Last-Update, in bytes.
const maxLastUpdate = 512

// Info is what a runner tells of itself.
type Info struct {
	Version  version.Info
	Executor string
	Shell    string
	// Features are the keys of info.features that the executor and the shell
	// add; the client adds those of the API itself.
	Features []string
	Labels   map[string]string
	GPUs     string // docker's gpus setting
}

// apiFeatures are true for every runner that speaks through this package.
func apiFeatures() []string {
	return []string{
		"trace_reset", "trace_checksum", "trace_size", "cancelable", "cancel_gracefully",
		"two_phase_job_commit", "job_inputs",
	}
}

// FeatureKeys lists the keys of info.features; all of them are always sent.
func FeatureKeys() []string {
	return append(apiFeatures(),
		"artifacts", "upload_multiple_artifacts", "upload_raw_artifacts", "cache", "fallback_cache_keys",
		"refspecs", "masking", "raw_variables", "artifacts_exclude", "multi_build_steps", "vault_secrets",
		"return_exit_code", "variables", "image", "image_executor_opts", "services", "service_variables",
		"service_multiple_aliases", "service_executor_opts", "session", "terminal", "proxy", "shared",
		"native_steps_integration",
	)
}

type wireInfo struct {
	Name         string            `json:"name,omitempty"`
	Version      string            `json:"version,omitempty"`
	Revision     string            `json:"revision,omitempty"`
	Platform     string            `json:"platform,omitempty"`
	Architecture string            `json:"architecture,omitempty"`
	Executor     string            `json:"executor,omitempty"`
	Shell        string            `json:"shell,omitempty"`
	Features     map[string]bool   `json:"features"`
	Config       wireConfig        `json:"config"`
	Labels       map[string]string `json:"labels,omitempty"`
}

type wireConfig struct {
	GPUs string `json:"gpus"`
}

func (i Info) encode() ([]byte, error) {
	w := wireInfo{
		Name: i.Version.Name, Version: i.Version.Version, Revision: i.Version.Revision,
		Platform: i.Version.OS, Architecture: i.Version.Architecture,
		Executor: i.Executor, Shell: i.Shell, Config: wireConfig{GPUs: i.GPUs}, Labels: i.Labels,
		Features: map[string]bool{},
	}
	api := apiFeatures()
	for _, k := range FeatureKeys() {
		w.Features[k] = slices.Contains(api, k)
	}
	for _, k := range i.Features {
		if _, ok := w.Features[k]; !ok {
			return nil, fmt.Errorf("the coordinator's API knows no feature %q", k)
		}
		w.Features[k] = true
	}
	return json.Marshal(w)
}

// encodeStatic prepares everything of the request bodies that never changes.
func (c *Client) encodeStatic() error {
	var err error
	if c.info, err = c.opts.Info.encode(); err != nil {
		return err
	}
	if c.bare, err = (Info{Version: c.opts.Info.Version}).encode(); err != nil {
		return err
	}
	p := append([]byte(`{"info":`), c.info...)
	p = append(p, `,"token":`...)
	p = appendString(p, c.token.Reveal())
	if c.opts.SystemID != "" {
		p = append(p, `,"system_id":`...)
		p = appendString(p, c.opts.SystemID)
	}
	c.prefix = p
	// Escaping can take six bytes for one.
	if n := len(p) + 6*maxLastUpdate + 32; n > MaxRequestBody {
		return fmt.Errorf("what the runner tells of itself takes %d bytes of a request, at most %d are allowed: it has too many labels", n, MaxRequestBody)
	}
	c.setLastUpdate("")
	c.brief = c.poll.Load().body
	return nil
}

// pollBody is the whole body of jobs/request for one last_update.
type pollBody struct {
	lastUpdate string
	body       []byte
}

// setLastUpdate keeps the opaque value that the next request carries back.
func (c *Client) setLastUpdate(v string) {
	if old := c.poll.Load(); old != nil && old.lastUpdate == v {
		return
	}
	b := make([]byte, 0, len(c.prefix)+len(v)+32)
	b = append(b, c.prefix...)
	if v != "" {
		b = append(b, `,"last_update":`...)
		b = appendString(b, v)
	}
	b = append(b, '}')
	c.poll.Store(&pollBody{lastUpdate: v, body: b})
}

func (c *Client) requestBody(brief bool) []byte {
	if brief {
		return c.brief
	}
	return c.poll.Load().body
}

// appendString appends s as JSON.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			q, err := json.Marshal(s)
			if err != nil { // strings can always be encoded
				q = []byte(`""`)
			}
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
