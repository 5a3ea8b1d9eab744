// Package boards is the source of the Grafana dashboards that are shipped in
// deploy/monitoring/dashboards.
package boards

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// The parts of Grafana's classic dashboard model that are used here.
type (
	// Dashboard is a file that Grafana imports or provisions.
	Dashboard struct {
		UID           string     `json:"uid"`
		Title         string     `json:"title"`
		Description   string     `json:"description"`
		Tags          []string   `json:"tags"`
		Editable      bool       `json:"editable"`
		GraphTooltip  int        `json:"graphTooltip"`
		Links         []Link     `json:"links"`
		Panels        []Panel    `json:"panels"`
		Refresh       string     `json:"refresh"`
		SchemaVersion int        `json:"schemaVersion"`
		Templating    Variables  `json:"templating"`
		Time          TimeRange  `json:"time"`
		Timezone      string     `json:"timezone"`
		Annotations   Annotation `json:"annotations"`
	}
	// Link leads to the other dashboards.
	Link struct {
		Type        string   `json:"type"`
		Title       string   `json:"title"`
		Tags        []string `json:"tags"`
		AsDropdown  bool     `json:"asDropdown"`
		IncludeVars bool     `json:"includeVars"`
		KeepTime    bool     `json:"keepTime"`
		TargetBlank bool     `json:"targetBlank"`
	}
	// Variables are what a reader may choose.
	Variables struct {
		List []Variable `json:"list"`
	}
	// Variable is one of them.
	Variable struct {
		Name       string         `json:"name"`
		Label      string         `json:"label"`
		Type       string         `json:"type"`
		Query      any            `json:"query"`
		Datasource *Source        `json:"datasource,omitempty"`
		Definition string         `json:"definition,omitempty"`
		Refresh    int            `json:"refresh,omitempty"`
		Sort       int            `json:"sort,omitempty"`
		Multi      bool           `json:"multi"`
		IncludeAll bool           `json:"includeAll"`
		AllValue   string         `json:"allValue,omitempty"`
		Current    map[string]any `json:"current"`
	}
	// VariableQuery is how the Prometheus data source is asked for values.
	VariableQuery struct {
		QryType int    `json:"qryType"`
		Query   string `json:"query"`
		RefID   string `json:"refId"`
	}
	// TimeRange is what is shown at first.
	TimeRange struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	// Annotation lists events drawn across the panels.
	Annotation struct {
		List []Event `json:"list"`
	}
	// Event is one sort of them.
	Event struct {
		Name       string  `json:"name"`
		Datasource *Source `json:"datasource"`
		Enable     bool    `json:"enable"`
		Expr       string  `json:"expr"`
		IconColor  string  `json:"iconColor"`
		TextFormat string  `json:"textFormat"`
		Title      string  `json:"titleFormat"`
		Step       string  `json:"step"`
	}
	// Source names a data source, here always the variable.
	Source struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	}
	// Panel is one picture, or a row's heading.
	Panel struct {
		ID              int              `json:"id"`
		Type            string           `json:"type"`
		Title           string           `json:"title"`
		Description     string           `json:"description,omitempty"`
		Datasource      *Source          `json:"datasource,omitempty"`
		GridPos         GridPos          `json:"gridPos"`
		FieldConfig     *FieldConfig     `json:"fieldConfig,omitempty"`
		Options         map[string]any   `json:"options,omitempty"`
		Targets         []Target         `json:"targets,omitempty"`
		Transformations []Transformation `json:"transformations,omitempty"`
		Collapsed       *bool            `json:"collapsed,omitempty"`
		Panels          []Panel          `json:"panels,omitempty"`
	}
	// GridPos is a place on the grid, 24 wide.
	GridPos struct {
		H int `json:"h"`
		W int `json:"w"`
		X int `json:"x"`
		Y int `json:"y"`
	}
	// FieldConfig is how values look.
	FieldConfig struct {
		Defaults  Field      `json:"defaults"`
		Overrides []Override `json:"overrides"`
	}
	// Field is the look of all values.
	Field struct {
		Unit       string           `json:"unit"`
		Min        *float64         `json:"min,omitempty"`
		Max        *float64         `json:"max,omitempty"`
		Color      map[string]any   `json:"color"`
		Custom     map[string]any   `json:"custom,omitempty"`
		Mappings   []map[string]any `json:"mappings"`
		Thresholds Thresholds       `json:"thresholds"`
	}
	// Thresholds are where values get another colour.
	Thresholds struct {
		Mode  string `json:"mode"`
		Steps []Step `json:"steps"`
	}
	// Step is a colour and where it begins; the first begins nowhere.
	Step struct {
		Color string   `json:"color"`
		Value *float64 `json:"value"`
	}
	// Override is another look for some values.
	Override struct {
		Matcher    Property   `json:"matcher"`
		Properties []Property `json:"properties"`
	}
	// Property is one setting.
	Property struct {
		ID      string `json:"id"`
		Value   any    `json:"value,omitempty"`
		Options any    `json:"options,omitempty"`
	}
	// Target is a query.
	Target struct {
		Datasource   *Source `json:"datasource"`
		EditorMode   string  `json:"editorMode"`
		Expr         string  `json:"expr"`
		Format       string  `json:"format"`
		Instant      bool    `json:"instant"`
		Range        bool    `json:"range"`
		LegendFormat string  `json:"legendFormat"`
		RefID        string  `json:"refId"`

		// Quiet says why the demo has no data for the query; empty: it has.
		Quiet string `json:"-"`
	}
	// Transformation is a step between the queries and the picture.
	Transformation struct {
		ID      string         `json:"id"`
		Options map[string]any `json:"options"`
	}
)

const (
	// schemaVersion is the newest of the classic model that Grafana 12 writes;
	// 11 and 10 read it as well.
	schemaVersion = 41
	columns       = 24
	tag           = "glassrunner"
)

func source() *Source { return &Source{Type: "prometheus", UID: "${datasource}"} }

// File returns the dashboard as it is shipped.
func (d Dashboard) File() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(d); err != nil {
		return nil, fmt.Errorf("%s: %w", d.UID, err)
	}
	return b.Bytes(), nil
}

// FileName is where the dashboard is shipped.
func (d Dashboard) FileName() string { return strings.TrimPrefix(d.UID, tag+"-") + ".json" }

// All returns the panels, those of rows included.
func (d Dashboard) All() []Panel {
	var all []Panel
	for _, p := range d.Panels {
		all = append(all, p)
		all = append(all, p.Panels...)
	}
	return all
}
