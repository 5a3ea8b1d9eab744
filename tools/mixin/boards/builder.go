package boards

import (
	"fmt"
	"strings"
)

// builder lays panels out from left to right, in lines of equal height.
type builder struct {
	d       Dashboard
	id      int
	x, y, h int
}

// Sizes of panels: thirds and halves of the width, and small numbers.
const (
	statWidth, statHeight   = 4, 4
	third, half, full       = 8, 12, 24
	graphHeight, rowHeight  = 8, 1
	tableHeight, heatHeight = 9, 9
)

// selectors takes the place of @p and @r in an expression: the target labels
// of a process, and those and the name of a runner.
func selectors(expr string) string {
	const target = `job=~"$job",instance=~"$instance"`
	return strings.NewReplacer("@p", target, "@r", target+`,runner_name=~"$runner_name"`).Replace(expr)
}

func board(uid, title, description string, variables ...Variable) *builder {
	return &builder{d: Dashboard{
		UID: tag + "-" + uid, Title: "glassrunner / " + title, Description: description,
		Tags: []string{tag, "gitlab", "ci"}, Editable: true, GraphTooltip: 1, Refresh: "30s",
		SchemaVersion: schemaVersion, Time: TimeRange{"now-3h", "now"}, Timezone: "browser",
		Templating: Variables{List: variables},
		Links: []Link{{
			Type: "dashboards", Title: "glassrunner", Tags: []string{tag}, AsDropdown: false, IncludeVars: true, KeepTime: true,
		}},
		Annotations: Annotation{List: []Event{{
			Name: "Starts", Datasource: source(), Enable: true, IconColor: "blue", Step: "60s",
			Expr:  selectors(`changes(process_start_time_seconds{@p}[5m]) > 0 and on (job, instance) glassrunner_process_state`),
			Title: "Start", TextFormat: "{{instance}}",
		}}},
	}}
}

// place gives the next panel its number and its place.
func (b *builder) place(p Panel, w, h int) {
	b.id++
	p.ID = b.id
	if b.x+w > columns {
		b.x, b.y, b.h = 0, b.y+b.h, 0
	}
	p.GridPos = GridPos{H: h, W: w, X: b.x, Y: b.y}
	b.x += w
	b.h = max(b.h, h)
	b.d.Panels = append(b.d.Panels, p)
}

// row begins a new part of the board.
func (b *builder) row(title string) {
	b.x, b.y, b.h = 0, b.y+b.h, 0
	open := false
	b.place(Panel{Type: "row", Title: title, Collapsed: &open}, full, rowHeight)
	b.x, b.y, b.h = 0, b.y+rowHeight, 0
}

// query is an expression with the name of its series.
type query struct {
	expr, legend, quiet string
}

// q is a query that has data in the demo.
func q(expr, legend string) query { return query{expr: expr, legend: legend} }

// quiet is a query that may have none, for the reason that is given.
func quiet(why, expr, legend string) query { return query{expr, legend, why} }

func targets(instant bool, format string, queries []query) []Target {
	out := make([]Target, 0, len(queries))
	for i, q := range queries {
		out = append(out, Target{
			Datasource: source(), EditorMode: "code", Expr: selectors(q.expr), Format: format,
			Instant: instant, Range: !instant, LegendFormat: q.legend, RefID: string(rune('A' + i)), Quiet: q.quiet,
		})
	}
	return out
}

// look is how a panel's values look.
type look struct {
	unit string
	max  float64 // of the axis; 0: by the data
	// steps are colours and where they begin: "green", 0.8, "red"; none: green.
	steps []any
	stack bool
}

func (l look) field() Field {
	f := Field{Unit: l.unit, Mappings: []map[string]any{}, Color: map[string]any{"mode": "palette-classic"}}
	zero := 0.0
	f.Min = &zero
	if l.max > 0 {
		f.Max = &l.max
	}
	f.Thresholds = Thresholds{Mode: "absolute", Steps: []Step{{Color: "green"}}}
	for i := 0; i < len(l.steps); i += 2 {
		if i == 0 {
			f.Thresholds.Steps = []Step{{Color: l.steps[0].(string)}}
			continue
		}
		at := l.steps[i-1].(float64)
		f.Thresholds.Steps = append(f.Thresholds.Steps, Step{Color: l.steps[i].(string), Value: &at})
	}
	return f
}

// stat is one number.
func (b *builder) stat(title, about string, l look, queries ...query) {
	f := l.field()
	f.Color = map[string]any{"mode": "thresholds"}
	b.place(Panel{
		Type: "stat", Title: title, Description: about, Datasource: source(), Targets: targets(true, "time_series", queries),
		FieldConfig: &FieldConfig{Defaults: f, Overrides: []Override{}},
		Options: map[string]any{
			"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto", "textMode": "auto",
			"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
		},
	}, statWidth, statHeight)
}

// graph is values over time.
func (b *builder) graph(width int, title, about string, l look, queries ...query) {
	f := l.field()
	f.Custom = map[string]any{
		"drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": false,
		"axisSoftMin": 0, "stacking": map[string]any{"mode": "none", "group": "A"},
	}
	if l.stack {
		f.Custom["fillOpacity"] = 60
		f.Custom["stacking"] = map[string]any{"mode": "normal", "group": "A"}
	}
	if len(l.steps) > 0 {
		f.Custom["thresholdsStyle"] = map[string]any{"mode": "dashed"}
	}
	b.place(Panel{
		Type: "timeseries", Title: title, Description: about, Datasource: source(), Targets: targets(false, "time_series", queries),
		FieldConfig: &FieldConfig{Defaults: f, Overrides: []Override{}},
		Options: map[string]any{
			"legend":  map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
		},
	}, width, graphHeight)
}

// heat is a histogram over time.
func (b *builder) heat(width int, title, about, unit, expr string) {
	f := look{unit: unit}.field()
	f.Custom = map[string]any{"hideFrom": map[string]any{"legend": false, "tooltip": false, "viz": false}, "scaleDistribution": map[string]any{"type": "linear"}}
	b.place(Panel{
		Type: "heatmap", Title: title, Description: about, Datasource: source(), Targets: targets(false, "heatmap", []query{q(expr, "{{le}}")}),
		FieldConfig: &FieldConfig{Defaults: f, Overrides: []Override{}},
		Options: map[string]any{
			"calculate": false, "cellGap": 1, "color": map[string]any{"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange"},
			"yAxis":  map[string]any{"unit": unit, "axisPlacement": "left"},
			"legend": map[string]any{"show": true}, "tooltip": map[string]any{"mode": "single", "yHistogram": false},
			"filterValues": map[string]any{"le": 1e-9}, "rowsFrame": map[string]any{"layout": "auto"},
		},
	}, width, heatHeight)
}

// column is a column of a table: the query's value under a name, in a unit.
type column struct {
	name, unit string
	query
}

// table shows instant values of several queries, joined by their labels. Names
// maps the labels that are shown to their headings.
func (b *builder) table(title, about string, names map[string]string, link *Property, columns ...column) {
	queries := make([]query, 0, len(columns))
	rename, overrides := map[string]any{}, []Override{}
	for i, c := range columns {
		queries = append(queries, c.query)
		value := "Value"
		if len(columns) > 1 {
			value += " #" + string(rune('A'+i))
		}
		rename[value] = c.name
		overrides = append(overrides, Override{
			Matcher: Property{ID: "byName", Options: c.name}, Properties: []Property{{ID: "unit", Value: c.unit}},
		})
	}
	hide := map[string]any{"Time": true}
	for label, heading := range names {
		rename[label] = heading
	}
	if link != nil {
		overrides = append(overrides, Override{Matcher: Property{ID: "byName", Options: names["runner_name"]}, Properties: []Property{*link}})
	}
	transformations := []Transformation{{ID: "merge", Options: map[string]any{}}}
	if len(columns) == 1 {
		transformations = nil
	}
	transformations = append(transformations, Transformation{ID: "organize", Options: map[string]any{"excludeByName": hide, "renameByName": rename, "indexByName": map[string]any{}}})
	f := look{unit: "none"}.field()
	f.Min = nil
	f.Custom = map[string]any{"align": "auto", "filterable": true}
	b.place(Panel{
		Type: "table", Title: title, Description: about, Datasource: source(), Targets: targets(true, "table", queries),
		FieldConfig: &FieldConfig{Defaults: f, Overrides: overrides}, Transformations: transformations,
		Options: map[string]any{"cellHeight": "sm", "showHeader": true, "footer": map[string]any{"show": false, "reducer": []string{"sum"}, "countRows": false, "fields": ""}},
	}, half, tableHeight)
}

// quantile asks a histogram for a quantile, by labels if there are any. A
// Prometheus that scrapes native histograms may have no classic buckets, so
// both are asked.
func quantile(of float64, metric, matchers, by string) string {
	classic, native := " by (le)", ""
	if by != "" {
		classic, native = " by (le, "+by+")", " by ("+by+")"
	}
	return fmt.Sprintf(
		"histogram_quantile(%g, sum%s (rate(%s_bucket{%s}[$__rate_interval]))) or histogram_quantile(%g, sum%s (rate(%s{%s}[$__rate_interval])))",
		of, classic, metric, matchers, of, native, metric, matchers)
}

// mean is a histogram's mean, by labels.
func mean(metric, matchers, by string) string {
	return fmt.Sprintf(
		"sum by (%[3]s) (rate(%[1]s_sum{%[2]s}[$__rate_interval])) / sum by (%[3]s) (rate(%[1]s_count{%[2]s}[$__rate_interval]))"+
			" or histogram_sum(sum by (%[3]s) (rate(%[1]s{%[2]s}[$__rate_interval]))) / histogram_count(sum by (%[3]s) (rate(%[1]s{%[2]s}[$__rate_interval])))",
		metric, matchers, by)
}

// The variables of every board.
func datasource() Variable {
	return Variable{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus", Current: map[string]any{}}
}

// ask is a variable with the values of a label.
func ask(name, label, expr string) Variable {
	return Variable{
		Name: name, Label: label, Type: "query", Datasource: source(), Definition: expr, Query: VariableQuery{QryType: 1, Query: expr, RefID: "PrometheusVariableQueryEditor-VariableQuery"},
		Refresh: 2, Sort: 1, Multi: true, IncludeAll: true, AllValue: ".*",
		Current: map[string]any{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
	}
}

func jobVariable() Variable {
	return ask("job", "Job", "label_values(glassrunner_process_state, job)")
}

func instanceVariable() Variable {
	return ask("instance", "Instance", `label_values(glassrunner_process_state{job=~"$job"}, instance)`)
}

func runnerVariable() Variable {
	return ask("runner_name", "Runner", `label_values(glassrunner_jobs_running{job=~"$job",instance=~"$instance"}, runner_name)`)
}

func processVariables() []Variable {
	return []Variable{datasource(), jobVariable(), instanceVariable()}
}

func allVariables() []Variable { return append(processVariables(), runnerVariable()) }
