// Package config reads, checks, describes and edits config.toml, the
// configuration file of GitLab Runner, and knows the files beside it.
//
// [Load] turns a file into an immutable [Config] and reports every problem it
// finds at once, each with line and column. What GitLab Runner accepts is
// accepted here: unknown keys and values that it replaces silently are
// warnings, only what it refuses is an error. Keys match without regard to
// upper and lower case, as they do there.
//
// The types carry everything that is known about a key in struct tags: toml
// (its name), flag and env (of register and run-single), default, allowed,
// unit, required, private (the value is not shown), ours (a key that GitLab
// Runner does not know) and doc. [Fields], [Markdown], [Describe] and
// [Runner.Set] read them. A field holds what the file says, so its zero value
// means absent; methods give the effective value where there is a default.
//
// [AddRunner], [RemoveRunners] and [UpdateToken] change the text of the file
// and leave every other byte as it is: comments, order, unknown keys and
// variables survive. [Watcher] tells when the content changed.
//
// The wire facts are those of GitLab Runner 19.4. Nothing here prints a token.
// The package is larger than most because the configuration is.
package config
