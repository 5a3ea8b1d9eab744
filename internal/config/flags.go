package config

import (
	"slices"
	"strconv"
	"strings"
)

// Flag is the name of a feature flag.
type Flag string

// FlagStatus says what glassrunner does with a feature flag.
type FlagStatus int

// The states of a feature flag.
const (
	Ignored   FlagStatus = iota // it has no effect, or what it changes does not exist here
	Effective                   // it changes what it says
)

// String returns "ignored" or "effective".
func (s FlagStatus) String() string {
	if s == Effective {
		return "effective"
	}
	return "ignored"
}

// FlagInfo describes a feature flag.
type FlagInfo struct {
	Name       Flag
	Default    bool
	Status     FlagStatus
	ConfigOnly bool // jobs cannot set it, because it acts before or beside them
	Doc        string
}

// FeatureFlags returns all feature flags, in the order of their documentation.
func FeatureFlags() []FlagInfo { return allFlags() }

// FlagSet holds the values of all feature flags for one job. Its zero value
// has the defaults.
type FlagSet struct {
	values  map[Flag]bool
	changed []string // in the form name:value
	bad     []Flag
}

// Resolve returns the values of all feature flags: that of the runner's
// [runners.feature_flags] if it has one, else that of the job's variable, else
// the default. Variables are read as strconv.ParseBool does; the default
// stands in for one that it cannot read, and [FlagSet.Unreadable] names it.
// jobVar may be nil.
func Resolve(runner map[string]bool, jobVar func(name string) (string, bool)) FlagSet {
	all := allFlags()
	set := FlagSet{values: make(map[Flag]bool, len(all))}
	for _, f := range all {
		value, known := runner[string(f.Name)]
		if !known && jobVar != nil && !f.ConfigOnly {
			if text, ok := jobVar(string(f.Name)); ok {
				v, err := strconv.ParseBool(text)
				if err == nil {
					value, known = v, true
				} else {
					set.bad = append(set.bad, f.Name)
				}
			}
		}
		if !known {
			value = f.Default
		}
		set.values[f.Name] = value
		if value != f.Default {
			set.changed = append(set.changed, string(f.Name)+":"+strconv.FormatBool(value))
		}
	}
	slices.Sort(set.changed)
	return set
}

// Enabled says whether the flag is on.
func (s FlagSet) Enabled(name Flag) bool {
	if v, ok := s.values[name]; ok {
		return v
	}
	for _, f := range allFlags() {
		if f.Name == name {
			return f.Default
		}
	}
	return false
}

// Unreadable returns the flags whose variable is no boolean.
func (s FlagSet) Unreadable() []Flag { return s.bad }

// Changed returns the flags that differ from their default in the form of the
// job log's header, such as "FF_TIMESTAMPS:false, FF_X:true", in alphabetical
// order; nothing when there is none.
func (s FlagSet) Changed() string { return strings.Join(s.changed, ", ") }

// Variables returns the value of every flag, as jobs see it in their
// environment.
func (s FlagSet) Variables() map[string]string {
	all := allFlags()
	out := make(map[string]string, len(all))
	for _, f := range all {
		out[string(f.Name)] = strconv.FormatBool(s.Enabled(f.Name))
	}
	return out
}

// flagByName returns the description of a flag.
func flagByName(name string) (FlagInfo, bool) {
	for _, f := range allFlags() {
		if string(f.Name) == name {
			return f, true
		}
	}
	return FlagInfo{}, false
}
