package script

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// submodules brings the submodules to the commits of the checkout.
func (j *Job) submodules(w *writer, skipLFS bool) error {
	recursive := false
	switch s := j.submoduleStrategy(); s {
	case "none":
		w.print(notice("Skipping Git submodules setup"))
		return nil
	case "normal":
	case "recursive":
		recursive = true
	default:
		return fmt.Errorf("unknown GIT_SUBMODULE_STRATEGY: want none, normal or recursive, found %s", strconv.QuoteToASCII(s))
	}
	paths := j.words("GIT_SUBMODULE_PATHS", "")
	if slices.Contains(paths, ":(exclude)") {
		return errors.New("GIT_SUBMODULE_PATHS: a bare `:(exclude)` excludes everything; write `:(exclude)path`")
	}
	depth, err := j.submoduleDepth()
	if err != nil {
		return err
	}
	text := "Updating/initializing submodules"
	if recursive {
		text += " recursively"
	}
	if depth > 0 {
		text += fmt.Sprintf(" with git depth set to %d", depth)
	}
	w.print(notice(text + "..."))

	tail := func(words []word) []word {
		if len(paths) == 0 {
			return words
		}
		return append(append(words, "--"), w.lits(paths)...)
	}
	option := func(words []word) []word {
		if recursive {
			words = append(words, "--recursive")
		}
		return words
	}
	flags := j.words("GIT_SUBMODULE_UPDATE_FLAGS", "")
	sync := tail(option(git("submodule", "sync")))
	update := option(git("-c", w.extConfig("include.path="), "submodule", "update", "--init"))
	if depth > 0 {
		update = append(update, "--depth", w.lit(strconv.Itoa(depth)))
	}
	update = tail(append(update, w.lits(flags)...))
	cleanFlags := j.words("GIT_CLEAN_FLAGS", "-ffdx")
	if len(cleanFlags) == 0 {
		cleanFlags = []string{"-ffdx"}
	}
	clean := j.foreach(w, cleanCommand(cleanFlags))
	hard := j.foreach(w, "git reset --hard")

	w.run(git("submodule", "init")...)
	w.run(sync...)
	w.run(clean...)
	w.run(hard...)
	w.when(condition{words: update}, func() {
		w.print(notice("Updated submodules"))
		w.run(sync...)
	}, func() {
		w.print(warning("Updating submodules failed. Retrying..."))
		if slices.Contains(flags, "--remote") {
			w.run(j.foreach(w, "git fetch origin '+refs/heads/*:refs/remotes/origin/*'")...)
		}
		w.run(sync...)
		w.run(update...)
		w.run(hard...)
	})
	w.run(clean...)
	w.print(notice("Configuring submodules to use parent git credentials..."))
	w.run(git("submodule", "foreach", "--recursive", w.lit(`git config --replace-all include.path "$GLR_EXT_GIT_CONFIG_PATH"`))...)
	if !skipLFS {
		w.when(condition{words: git("lfs", "version"), quiet: true}, func() {
			w.print(notice("Pulling LFS files..."))
			w.run(j.foreach(w, "git lfs pull")...)
		}, nil)
	}
	return nil
}

func (j *Job) submoduleDepth() (int, error) {
	text := strings.TrimSpace(j.Variables.Value("GIT_SUBMODULE_DEPTH"))
	if text == "" {
		return j.Spec.Git.Depth, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("GIT_SUBMODULE_DEPTH: want a number that is not negative, found %s", strconv.QuoteToASCII(text))
	}
	return n, nil
}

// foreach runs a command, in git's own shell, in every submodule.
func (j *Job) foreach(w *writer, command string) []word {
	words := git("submodule", "foreach")
	if j.submoduleStrategy() == "recursive" {
		words = append(words, "--recursive")
	}
	return append(words, w.lit(command))
}

// cleanCommand is `git clean` for git's own shell.
func cleanCommand(flags []string) string {
	words := []string{"git clean"}
	for _, f := range flags {
		words = append(words, quote(f))
	}
	return strings.Join(words, " ")
}
