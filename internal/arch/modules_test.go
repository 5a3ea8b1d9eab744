package arch_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A dependency is a module that go.mod may require.
type dependency struct {
	path    string
	licence string
	reason  string   // why we have it, or, of an indirect one, who needs it
	only    []string // the packages whose product code may import it; nil means all
	tests   bool     // for tests only
}

// direct lists what our code imports. A row here is a decision: could the
// standard library, or fifty lines of ours, do it as well?
var direct = []dependency{
	{path: "github.com/containerd/errdefs", licence: "Apache-2.0", reason: "kinds of the errors of a Docker engine", only: []string{"internal/executor/docker"}},
	{path: "github.com/distribution/reference", licence: "Apache-2.0", reason: "names of images, as engines and kubelets read them", only: []string{"internal/executor/docker", "internal/executor/kubernetes", "internal/image"}},
	{path: "github.com/docker/go-units", licence: "Apache-2.0", reason: "sizes and ulimits in Docker's notation; the API's own type of a ulimit", only: []string{"internal/executor/docker"}},
	{path: "github.com/moby/moby/api", licence: "Apache-2.0", reason: "types of the Docker engine's API", only: []string{"internal/executor/docker"}},
	{path: "github.com/moby/moby/client", licence: "Apache-2.0", reason: "the maintained client of the Docker engine's API", only: []string{"internal/executor/docker"}},
	{path: "github.com/opencontainers/image-spec", licence: "Apache-2.0", reason: "the type of a platform in the Docker client's API", only: []string{"internal/executor/docker"}},
	{path: "github.com/KimMachineGun/automemlimit", licence: "MIT", reason: "GOMEMLIMIT from the cgroup's limit, v1 and v2", only: []string{"internal/app", "internal/cli", "cmd/glassrunner"}},
	{path: "github.com/bmatcuk/doublestar/v4", licence: "MIT", reason: "patterns with **, in the dialect of GitLab's artifacts and caches"},
	{path: "github.com/google/go-cmp", licence: "BSD-3-Clause", reason: "differences that a person can read", tests: true},
	{path: "github.com/hashicorp/cronexpr", licence: "Apache-2.0", reason: "the cron dialect that config.toml's periods are written in"},
	{path: "github.com/klauspost/compress", licence: "Apache-2.0", reason: "zstd, which the standard library lacks, and the quicker deflate"},
	{path: "github.com/minio/minio-go/v7", licence: "Apache-2.0", reason: "signed addresses and credentials for S3", only: []string{"internal/cache/presign"}},
	{path: "github.com/pelletier/go-toml/v2", licence: "MIT", reason: "TOML with positions, strict mode and an unstable AST to save without loss"},
	{path: "github.com/prometheus/client_golang", licence: "Apache-2.0", reason: "metrics in all exposition formats", only: []string{"internal/admin", "internal/app", "internal/observe/metrics", "internal/observe/metrics/compat"}},
	{path: "github.com/prometheus/client_model", licence: "Apache-2.0", reason: "what a registry gathers, to read it back"},
	{path: "github.com/prometheus/common", licence: "Apache-2.0", reason: "reads and writes the exposition formats"},
	{path: "github.com/prometheus/exporter-toolkit", licence: "Apache-2.0", reason: "the web configuration file that Prometheus's exporters share", only: []string{"internal/admin"}},
	{path: "github.com/rogpeppe/go-internal", licence: "BSD-3-Clause", reason: "testscript: command line tests that read like a terminal", tests: true},
	{path: "github.com/spf13/cobra", licence: "Apache-2.0", reason: "commands, help, shell completion", only: []string{"internal/cli", "internal/helper", "cmd/glassrunner-helper"}},
	{path: "github.com/spf13/pflag", licence: "BSD-3-Clause", reason: "cobra's flags", only: []string{"internal/cli", "internal/helper", "cmd/glassrunner-helper"}},
	{path: "github.com/go-logr/logr", licence: "Apache-2.0", reason: "the logs of OpenTelemetry and of client-go, to keep them from writing to standard error", only: []string{"internal/observe/traces", "internal/executor/kubernetes"}},
	{path: "go.opentelemetry.io/otel", licence: "Apache-2.0", reason: "OpenTelemetry: attributes, status codes, its error handler", only: []string{"internal/observe/traces"}},
	{path: "go.opentelemetry.io/otel/exporters/otlp/otlptrace", licence: "Apache-2.0", reason: "spans of the SDK as messages of OTLP", only: []string{"internal/observe/traces"}},
	{path: "go.opentelemetry.io/otel/metric", licence: "Apache-2.0", reason: "instruments of the cicd metrics", only: []string{"internal/observe/traces"}},
	{path: "go.opentelemetry.io/otel/sdk", licence: "Apache-2.0", reason: "spans, samplers and their bounded, batched export", only: []string{"internal/observe/traces"}},
	{path: "go.opentelemetry.io/otel/sdk/metric", licence: "Apache-2.0", reason: "aggregation and periodic export of metrics", only: []string{"internal/observe/traces"}},
	{path: "go.opentelemetry.io/otel/trace", licence: "Apache-2.0", reason: "the API of spans", only: []string{"internal/observe/traces"}},
	{path: "go.opentelemetry.io/proto/otlp", licence: "Apache-2.0", reason: "the messages of OTLP", only: []string{"internal/observe/traces"}},
	{path: "go.yaml.in/yaml/v2", licence: "Apache-2.0", reason: "the web configuration file as exporter-toolkit reads it: v3 takes other values for good", only: []string{"internal/admin"}},
	{path: "go.yaml.in/yaml/v3", licence: "MIT", reason: ".gitlab-ci.yml of demo, YAML inputs and artifacts of jobs"},
	{path: "golang.org/x/crypto", licence: "BSD-3-Clause", reason: "bcrypt of the web configuration's passwords; SSH: the client, known_hosts", only: []string{"internal/admin", "internal/cli", "internal/remote"}},
	{path: "golang.org/x/sys", licence: "BSD-3-Clause", reason: "system calls: process groups, file locks, Windows"},
	{path: "golang.org/x/term", licence: "BSD-3-Clause", reason: "is it a terminal, how wide, a password unseen"},
	{path: "gopkg.in/evanphx/json-patch.v4", licence: "BSD-3-Clause", reason: "JSON patches and merge patches of pod_spec; apimachinery needs it as well", only: []string{"internal/executor/kubernetes"}},
	{path: "k8s.io/api", licence: "Apache-2.0", reason: "types of pods and of what belongs to them", only: []string{"internal/executor/kubernetes"}},
	{path: "k8s.io/apimachinery", licence: "Apache-2.0", reason: "Kubernetes' errors, quantities and strategic merge patches", only: []string{"internal/executor/kubernetes"}},
	{path: "k8s.io/client-go", licence: "Apache-2.0", reason: "ways to the API server (kubeconfig, in-cluster, plugins for credentials) and the streams of exec; no clientset, no scheme", only: []string{"internal/executor/kubernetes"}},
	{path: "k8s.io/streaming", licence: "Apache-2.0", reason: "tells a server that refuses WebSockets from other trouble", only: []string{"internal/executor/kubernetes"}},
	{path: "k8s.io/klog/v2", licence: "Apache-2.0", reason: "client-go's own log, to keep it from writing to standard error", only: []string{"internal/executor/kubernetes"}},
	{path: "google.golang.org/protobuf", licence: "BSD-3-Clause", reason: "the encoding of OTLP; client_golang needs it as well", only: []string{"internal/observe/traces"}},
	{path: "golang.org/x/time", licence: "BSD-3-Clause", reason: "the rate limit of the web configuration", only: []string{"internal/admin"}},
}

// indirect lists what direct dependencies bring.
var indirect = []dependency{
	{path: "github.com/Microsoft/go-winio", licence: "MIT", reason: "go-connections' named pipes on Windows"},
	{path: "github.com/containerd/errdefs/pkg", licence: "Apache-2.0", reason: "the Docker client's error kinds by HTTP status"},
	{path: "github.com/docker/go-connections", licence: "Apache-2.0", reason: "the Docker client's sockets and TLS"},
	{path: "github.com/felixge/httpsnoop", licence: "MIT", reason: "otelhttp"},
	{path: "github.com/go-logr/stdr", licence: "Apache-2.0", reason: "OpenTelemetry's own log"},
	{path: "github.com/moby/docker-image-spec", licence: "Apache-2.0", reason: "the Docker API's image configuration"},
	{path: "github.com/opencontainers/go-digest", licence: "Apache-2.0", reason: "image-spec and reference"},
	{path: "go.opentelemetry.io/auto/sdk", licence: "Apache-2.0", reason: "OpenTelemetry"},
	{path: "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", licence: "Apache-2.0", reason: "the Docker client's spans, which nobody collects"},
	{path: "github.com/beorn7/perks", licence: "MIT", reason: "client_golang's quantiles"},
	{path: "github.com/cespare/xxhash/v2", licence: "MIT", reason: "client_golang's label hashes"},
	{path: "github.com/dustin/go-humanize", licence: "MIT", reason: "minio-go"},
	{path: "github.com/google/uuid", licence: "BSD-3-Clause", reason: "minio-go"},
	{path: "github.com/klauspost/cpuid/v2", licence: "MIT", reason: "minio-go's checksums"},
	{path: "github.com/klauspost/crc32", licence: "BSD-3-Clause", reason: "minio-go's checksums"},
	{path: "github.com/minio/crc64nvme", licence: "Apache-2.0", reason: "minio-go's checksums"},
	{path: "github.com/minio/md5-simd", licence: "Apache-2.0", reason: "minio-go's checksums"},
	{path: "github.com/philhofer/fwd", licence: "MIT", reason: "minio-go's encoding"},
	{path: "github.com/rs/xid", licence: "MIT", reason: "minio-go"},
	{path: "github.com/tinylib/msgp", licence: "MIT", reason: "minio-go's encoding"},
	{path: "github.com/zeebo/xxh3", licence: "BSD-2-Clause", reason: "minio-go's checksums"},
	{path: "github.com/coreos/go-systemd/v22", licence: "Apache-2.0", reason: "exporter-toolkit's sockets from systemd, which we do not use"},
	{path: "github.com/golang-jwt/jwt/v5", licence: "MIT", reason: "prometheus/common's OAuth, which we do not use"},
	{path: "github.com/jpillora/backoff", licence: "MIT", reason: "go-conntrack"},
	{path: "github.com/mdlayher/socket", licence: "MIT", reason: "vsock"},
	{path: "github.com/mdlayher/vsock", licence: "MIT", reason: "exporter-toolkit's sockets of virtual machines, which we do not use"},
	{path: "github.com/mwitkow/go-conntrack", licence: "Apache-2.0", reason: "prometheus/common's HTTP clients, which we do not use"},
	{path: "golang.org/x/oauth2", licence: "BSD-3-Clause", reason: "prometheus/common's HTTP clients, which we do not use"},
	{path: "golang.org/x/sync", licence: "BSD-3-Clause", reason: "exporter-toolkit"},
	{path: "golang.org/x/net", licence: "BSD-3-Clause", reason: "minio-go"},
	{path: "golang.org/x/text", licence: "BSD-3-Clause", reason: "golang.org/x/net"},
	{path: "gopkg.in/ini.v1", licence: "Apache-2.0", reason: "minio-go's credential files"},
	{path: "github.com/inconshreveable/mousetrap", licence: "Apache-2.0", reason: "cobra on Windows"},
	{path: "github.com/munnerz/goautoneg", licence: "BSD-3-Clause", reason: "common's content negotiation"},
	{path: "github.com/pandatix/go-abnf", licence: "MIT", reason: "client_golang"},
	{path: "github.com/pbnjay/memory", licence: "BSD-3-Clause", reason: "automemlimit"},
	{path: "github.com/prometheus/procfs", licence: "Apache-2.0", reason: "client_golang's process collector"},
	{path: "golang.org/x/tools", licence: "BSD-3-Clause", reason: "go-internal's txtar"},
	{path: "go.opentelemetry.io/otel/log", licence: "Apache-2.0", reason: "the SDK"},
	{path: "github.com/davecgh/go-spew", licence: "ISC", reason: "client-go"},
	{path: "github.com/fxamacker/cbor/v2", licence: "MIT", reason: "apimachinery's encodings"},
	{path: "github.com/go-openapi/jsonpointer", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/go-openapi/jsonreference", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/go-openapi/swag", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/go-openapi/swag/cmdutils", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/go-openapi/swag/conv", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/go-openapi/swag/fileutils", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/go-openapi/swag/jsonutils", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/go-openapi/swag/loading", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/go-openapi/swag/mangling", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/go-openapi/swag/netutils", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/go-openapi/swag/pools", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/go-openapi/swag/stringutils", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/go-openapi/swag/typeutils", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/go-openapi/swag/yamlutils", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/google/gnostic-models", licence: "Apache-2.0", reason: "kube-openapi"},
	{path: "github.com/gorilla/websocket", licence: "BSD-2-Clause", reason: "client-go's streams"},
	{path: "github.com/json-iterator/go", licence: "MIT", reason: "structured-merge-diff"},
	{path: "github.com/moby/spdystream", licence: "Apache-2.0", reason: "client-go's streams to servers before 1.30"},
	{path: "github.com/modern-go/concurrent", licence: "Apache-2.0", reason: "json-iterator"},
	{path: "github.com/modern-go/reflect2", licence: "Apache-2.0", reason: "json-iterator"},
	{path: "github.com/x448/float16", licence: "MIT", reason: "cbor"},
	{path: "go.yaml.in/yaml/v2", licence: "Apache-2.0", reason: "sigs.k8s.io/yaml"},
	{path: "golang.org/x/time", licence: "BSD-3-Clause", reason: "client-go's rate limits"},
	{path: "golang.org/x/oauth2", licence: "BSD-3-Clause", reason: "client-go's credentials"},
	{path: "gopkg.in/inf.v0", licence: "BSD-3-Clause", reason: "apimachinery's quantities"},
	{path: "k8s.io/kube-openapi", licence: "Apache-2.0", reason: "apimachinery's strategic merge patches"},
	{path: "k8s.io/utils", licence: "Apache-2.0", reason: "client-go"},
	{path: "sigs.k8s.io/json", licence: "Apache-2.0", reason: "apimachinery"},
	{path: "sigs.k8s.io/randfill", licence: "Apache-2.0", reason: "apimachinery"},
	{path: "sigs.k8s.io/structured-merge-diff/v6", licence: "Apache-2.0", reason: "apimachinery"},
	{path: "sigs.k8s.io/yaml", licence: "MIT", reason: "client-go's configuration"},
}

// licences gives each accepted licence a phrase that its text has.
var licences = map[string]string{
	"Apache-2.0":   "Apache License",
	"BSD-2-Clause": "Redistribution and use in source and binary forms",
	"BSD-3-Clause": "Redistribution and use in source and binary forms",
	"ISC":          "Permission to use, copy, modify, and/or distribute this software",
	"MIT":          "Permission is hereby granted, free of charge",
}

// goMod is the part of `go mod edit -json` that the rules look at.
type goMod struct {
	Module  struct{ Path string }
	Require []struct {
		Path     string
		Indirect bool
	}
	Replace []struct{ Old struct{ Path string } }
	Exclude []struct{ Path string }
	Tool    []struct{ Path string }
}

// checkModules returns what breaks the rules of go.mod.
func checkModules(mod goMod, direct, indirect []dependency) []string {
	var broken []string
	if mod.Module.Path != module {
		broken = append(broken, fmt.Sprintf("go.mod: module %s, want %s", mod.Module.Path, module))
	}
	for _, r := range mod.Replace {
		broken = append(broken, "go.mod replaces "+r.Old.Path+": go install would refuse the program")
	}
	for _, e := range mod.Exclude {
		broken = append(broken, "go.mod excludes "+e.Path+": go install would refuse the program")
	}
	for _, tool := range mod.Tool {
		broken = append(broken, "go.mod has the tool "+tool.Path+": tools have modules of their own below tools/")
	}
	listed := map[string]bool{}
	for _, d := range slices.Concat(direct, indirect) {
		listed[d.path] = true
		if licences[d.licence] == "" {
			broken = append(broken, d.path+": licence "+d.licence+" is not one that we accept")
		}
	}
	for _, r := range mod.Require {
		if !listed[r.Path] {
			broken = append(broken, "go.mod requires "+r.Path+", which internal/arch does not list: add it there with the reason")
		}
		delete(listed, r.Path)
	}
	for _, p := range slices.Sorted(maps.Keys(listed)) {
		broken = append(broken, "internal/arch lists "+p+", which go.mod does not require: remove the row")
	}
	return broken
}

// checkImports returns imports of other modules that no row allows.
func checkImports(packs []pack, direct []dependency) []string {
	var broken []string
	for _, p := range packs {
		kind, _ := place(p.path)
		forTests := kind == helper || kind == outside
		for _, imp := range slices.Sorted(maps.Keys(p.imports)) {
			d, outer := owner(imp, direct)
			switch {
			case !outer:
			case d == nil:
				broken = append(broken, fmt.Sprintf("%s imports %s: no dependency of internal/arch holds it", p.imports[imp], imp))
			case forTests:
			case d.tests:
				broken = append(broken, fmt.Sprintf("%s imports %s: it is for tests", p.imports[imp], imp))
			case d.only != nil && !slices.Contains(d.only, p.path):
				broken = append(broken, fmt.Sprintf("%s imports %s: only %s may", p.imports[imp], imp, strings.Join(d.only, ", ")))
			}
		}
		for _, imp := range slices.Sorted(maps.Keys(p.testImports)) {
			if d, outer := owner(imp, direct); outer && d == nil {
				broken = append(broken, fmt.Sprintf("%s imports %s: no dependency of internal/arch holds it", p.testImports[imp], imp))
			}
		}
	}
	return broken
}

// owner returns the row of an import, and whether the import needs one.
func owner(imp string, rows []dependency) (*dependency, bool) {
	if standard(imp) || imp == module || strings.HasPrefix(imp, module+"/") {
		return nil, false
	}
	for i := range rows {
		if imp == rows[i].path || strings.HasPrefix(imp, rows[i].path+"/") {
			return &rows[i], true
		}
	}
	return nil, true
}

func TestModules(t *testing.T) {
	report(t, checkModules(readGoMod(t, "go.mod"), direct, indirect))
}

// readGoMod reads a go.mod file; its name is relative to the module's root.
func readGoMod(t *testing.T, file string) goMod {
	t.Helper()
	var mod goMod
	if err := json.Unmarshal(goCommand(t, "mod", "edit", "-json", file), &mod); err != nil {
		t.Fatal(err)
	}
	return mod
}

func TestImportsOfModules(t *testing.T) {
	packs, _, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	report(t, checkImports(packs, direct))
}

// TestLicences reads each dependency's licence, and ours.
func TestLicences(t *testing.T) {
	rows := map[string]dependency{}
	for _, d := range slices.Concat(direct, indirect) {
		rows[d.path] = d
	}
	dec := json.NewDecoder(strings.NewReader(string(goCommand(t, "mod", "download", "-json"))))
	read := 0
	for dec.More() {
		var m struct{ Path, Dir, Error string }
		if err := dec.Decode(&m); err != nil {
			t.Fatal(err)
		}
		if m.Error != "" {
			t.Errorf("%s: %s", m.Path, m.Error)
			continue
		}
		if d, ok := rows[m.Path]; ok { // TestModules names those that are not
			read++
			checkLicence(t, m.Dir, d.licence)
		}
	}
	if read == 0 {
		t.Error("no dependency's licence was read")
	}
	checkLicence(t, root, "MIT")
}

func checkLicence(t *testing.T, dir, licence string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "LICENSE*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(strings.Join(strings.Fields(string(text)), " "), licences[licence]) {
			return
		}
	}
	t.Errorf("%s: no LICENSE file that reads like %s", path.Base(filepath.ToSlash(dir)), licence)
}

// goCommand runs go in the module's root and returns what it printed.
func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}
