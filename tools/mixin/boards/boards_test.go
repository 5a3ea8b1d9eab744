package boards_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/tools/mixin/boards"
)

// What Grafana knows of, as far as it is used here.
func panelTypes() []string { return []string{"row", "stat", "timeseries", "heatmap", "table"} }
func units() []string      { return []string{"none", "s", "bytes", "Bps", "percentunit"} }
func builtIn() []string    { return []string{"__rate_interval", "__range"} }

// TestBoards holds the dashboards to what Grafana expects of them. It reads the
// files as Grafana would, not the types that they are made of.
func TestBoards(t *testing.T) {
	t.Parallel()
	uids := map[string]bool{}
	titles := map[string]bool{}
	var linked []string
	for _, d := range boards.Boards() {
		if uids[d.UID] || titles[d.Title] {
			t.Errorf("%s is there twice", d.UID)
		}
		uids[d.UID], titles[d.Title] = true, true
		text, err := d.File()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"/d/([^/?"]+)`).FindAllStringSubmatch(string(text), -1) {
			linked = append(linked, m[1])
		}
		for _, problem := range inspect(text) {
			t.Errorf("%s: %s", d.UID, problem)
		}
	}
	for _, uid := range linked {
		if !uids[uid] {
			t.Errorf("a link leads to %s, which is no dashboard", uid)
		}
	}
}

// file is a dashboard as read from its JSON.
type file struct {
	UID, Title, Description, Refresh string
	Tags                             []string
	SchemaVersion                    int
	Templating                       struct {
		List []struct {
			Name, Type string
			Datasource *source
		}
	}
	Links []struct {
		Type string
		Tags []string
	}
	Panels []panel
}

type source struct{ Type, UID string }

type panel struct {
	ID          int
	Type, Title string
	Datasource  *source
	GridPos     struct{ H, W, X, Y int }
	FieldConfig *struct {
		Defaults struct {
			Unit       string
			Thresholds struct {
				Mode  string
				Steps []struct {
					Color string
					Value *float64
				}
			}
		}
		Overrides []struct {
			Matcher    struct{ ID, Options string }
			Properties []struct {
				ID    string
				Value any
			}
		}
	}
	Targets []struct {
		Expr, RefID, Format string
		Instant, Range      bool
		Datasource          *source
	}
}

// inspect lists what is wrong with a dashboard.
func inspect(text []byte) []string {
	var problems []string
	bad := func(what string) { problems = append(problems, what) }
	var d file
	if err := json.Unmarshal(text, &d); err != nil {
		return []string{err.Error()}
	}
	if d.UID == "" || len(d.UID) > 40 || d.Title == "" || d.Description == "" || d.Refresh == "" || d.SchemaVersion < 39 {
		bad("it lacks a uid of at most 40 characters, a title, a description, a refresh rate or a schema version")
	}
	if strings.Contains(string(text), "@p") || strings.Contains(string(text), "@r") {
		bad("a selector was not filled in")
	}
	known := builtIn()
	for _, v := range d.Templating.List {
		known = append(known, v.Name)
		if v.Type == "query" && (v.Datasource == nil || v.Datasource.UID != "${datasource}") {
			bad("the variable " + v.Name + " has another data source")
		}
	}
	if !slices.Contains(known, "datasource") || !slices.Contains(known, "instance") {
		bad("it lacks the variables datasource and instance")
	}
	if len(d.Links) != 1 || d.Links[0].Type != "dashboards" || !slices.Contains(d.Tags, d.Links[0].Tags[0]) {
		bad("it is not linked to the others, or they not to it")
	}
	ids := map[int]bool{}
	for i, p := range d.Panels {
		of := func(what string) { bad(p.Title + ": " + what) }
		if ids[p.ID] || p.ID == 0 {
			of("its id is not its own")
		}
		ids[p.ID] = true
		if p.Title == "" || !slices.Contains(panelTypes(), p.Type) {
			of("it has no title, or the unknown type " + p.Type)
		}
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			of("it leaves the grid")
		}
		for _, o := range d.Panels[:i] {
			if h := o.GridPos; g.X < h.X+h.W && h.X < g.X+g.W && g.Y < h.Y+h.H && h.Y < g.Y+g.H {
				of("it covers " + o.Title)
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource == nil || p.Datasource.UID != "${datasource}" || p.FieldConfig == nil || len(p.Targets) == 0 {
			of("it lacks the data source, the look of its values, or queries")
			continue
		}
		if !slices.Contains(units(), p.FieldConfig.Defaults.Unit) {
			of("unknown unit " + p.FieldConfig.Defaults.Unit)
		}
		for _, o := range p.FieldConfig.Overrides {
			for _, q := range o.Properties {
				if unit, ok := q.Value.(string); q.ID == "unit" && (!ok || !slices.Contains(units(), unit)) {
					of("unknown unit of " + o.Matcher.Options)
				}
			}
		}
		steps := p.FieldConfig.Defaults.Thresholds.Steps
		for i, s := range steps {
			if (i == 0) != (s.Value == nil) || i > 1 && *s.Value <= *steps[i-1].Value {
				of("its thresholds do not rise from nothing")
			}
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if refs[q.RefID] || q.RefID == "" || q.Expr == "" || q.Instant == q.Range || q.Datasource == nil {
				of("a query lacks its own name, its text, its kind or its data source")
			}
			refs[q.RefID] = true
			for _, m := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(q.Expr, -1) {
				if !slices.Contains(known, m[1]) {
					of("unknown variable " + m[1])
				}
			}
		}
	}
	return problems
}

// TestInspect shows that the inspection finds what is wrong.
func TestInspect(t *testing.T) {
	t.Parallel()
	good, err := boards.Boards()[0].File()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ old, new, want string }{
		{`"id": 3,`, `"id": 2,`, "not its own"},
		{`"type": "stat"`, `"type": "singlestat"`, "unknown type"},
		{`"unit": "percentunit"`, `"unit": "percents"`, "unknown unit"},
		{`"x": 4,`, `"x": 23,`, "leaves the grid"},
		{`"x": 4,`, `"x": 3,`, "covers"},
		{`"uid": "${datasource}"`, `"uid": "prometheus"`, "data source"},
		{`job=~\"$job\"`, `job=~\"$cluster\"`, "unknown variable"},
		{`"value": 0.8`, `"value": 1.8`, "do not rise"},
		{`"refId": "B"`, `"refId": "A"`, "its own name"},
		{`"uid": "glassrunner-fleet"`, `"uid": ""`, "lacks a uid"},
	} {
		broken := strings.Replace(string(good), tt.old, tt.new, 1)
		if broken == string(good) {
			t.Errorf("%s does not occur", tt.old)
		}
		if got := strings.Join(inspect([]byte(broken)), "\n"); !strings.Contains(got, tt.want) {
			t.Errorf("with %s: got %q, want %q", tt.new, got, tt.want)
		}
	}
}
