package script

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/glassrunner/glassrunner/internal/job"
)

// A CacheObject names a cache in an object storage.
type CacheObject struct {
	Project int64  // number of the project that it belongs to
	Name    string // with slashes, never out of the project
	Key     string // as people know it
	Upload  bool   // to be written, else to be read
}

// Link is how the helper reaches one CacheObject: addresses that need no
// credentials any more.
type Link struct {
	URL     job.Secret        // to get or to put it
	HeadURL job.Secret        // to ask whether it is there
	Header  map[string]string // that the request has to have
}

// cacheKey is a cache's key in all its forms.
type cacheKey struct {
	human    string // expanded, for people
	dir      string // of the archive on disk, below Dirs.Cache
	other    string // the same under the other scheme of names
	object   string // in a storage
	warnings []string
}

// CacheObjects lists what a phase may read or write in an object storage.
func CacheObjects(j *Job, p job.Phase) []CacheObject {
	var out []CacheObject
	add := func(k cacheKey, name string, upload bool) {
		if o := j.object(k, name, upload); name != "" && !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	for _, c := range j.Spec.Caches {
		push, pull, err := j.policy(c)
		if err != nil || !used(c) {
			continue
		}
		switch {
		case p == job.RestoreCache && pull:
			for _, k := range j.restoreKeys(c) {
				add(k, k.object, false)
				add(k, objectName(k.other), false)
			}
		case (p == job.ArchiveCache || p == job.ArchiveCacheFailed) && push && applies(c.When, p == job.ArchiveCacheFailed):
			k := j.cacheKey(c.Key)
			add(k, k.object, true)
		}
	}
	return out
}

func (j *Job) object(k cacheKey, name string, upload bool) CacheObject {
	return CacheObject{Project: j.Spec.Info.ProjectID, Name: name, Key: k.human, Upload: upload}
}

// used reports whether a cache entry asks for anything.
func used(c job.Cache) bool { return len(c.Paths) > 0 || c.Untracked }

// policy says which ways a cache goes.
func (j *Job) policy(c job.Cache) (push, pull bool, err error) {
	switch p := strings.TrimSpace(j.Variables.Expand(c.Policy, j.filePath)); p {
	case "", "pull-push":
		return true, true, nil
	case "pull":
		return false, true, nil
	case "push":
		return true, false, nil
	default:
		return false, false, fmt.Errorf("unknown cache policy %s", strconv.QuoteToASCII(p))
	}
}

// cacheKey reads a key as the job's description has it.
func (j *Job) cacheKey(raw string) cacheKey {
	k := cacheKey{human: strings.ReplaceAll(j.Variables.Expand(raw, j.filePath), "\x00", "")}
	if k.human == "" {
		k.human = path.Clean(j.Spec.Info.Name + "/" + j.Spec.Git.Ref)
	}
	plain := sanitized(k.human)
	sum := sha256.Sum256([]byte(k.human))
	hash := hex.EncodeToString(sum[:])
	if j.flag("FF_HASH_CACHE_KEYS") {
		k.dir, k.other = hash, plain
		k.object = objectName(hash)
		return k
	}
	switch {
	case plain == "":
		k.warnings = append(k.warnings, fmt.Sprintf("cache key %q could not be sanitized", k.human))
		return k
	case plain != k.human:
		k.warnings = append(k.warnings, fmt.Sprintf("cache key %q sanitized to %q", k.human, plain))
	}
	k.dir, k.other, k.object = plain, hash, plain
	return k
}

// objectName spreads hashes over prefixes.
func objectName(name string) string {
	if len(name) == 2*sha256.Size && strings.Trim(name, "0123456789abcdef") == "" {
		return name[:2] + "/" + name
	}
	return name
}

// sanitized makes a key a path that stays below where it is put, "" when
// nothing is left.
func sanitized(key string) string {
	key = strings.NewReplacer("%2f", "/", "%2F", "/", "%2e", ".", "%2E", ".", `\`, "/").Replace(key)
	// What is trimmed may hide a step up, and that step more white space.
	for {
		next := trimmed(key)
		if next == key {
			return key
		}
		key = next
	}
}

// trimmed is one round of sanitized.
func trimmed(key string) string {
	segments := strings.Split(strings.TrimPrefix(path.Clean("/"+key), "/"), "/")
	for n := len(segments); n > 0; n-- {
		if segments[n-1] = strings.TrimRight(segments[n-1], " \t\r\n\v\f"); segments[n-1] != "" {
			break
		}
		segments = segments[:n-1]
	}
	return strings.TrimPrefix(path.Clean("/"+strings.Join(segments, "/")), "/")
}

// restoreKeys are the keys under which a cache is looked for, in order.
func (j *Job) restoreKeys(c job.Cache) []cacheKey {
	keys := []cacheKey{j.cacheKey(c.Key)}
	for _, f := range c.FallbackKeys {
		if f != "" {
			keys = append(keys, j.cacheKey(f))
		}
	}
	if f := j.Variables.Value("CACHE_FALLBACK_KEY"); f != "" {
		k := j.cacheKey(f)
		if strings.HasSuffix(strings.TrimRight(k.human, ". "), "-protected") {
			k = cacheKey{human: k.human, warnings: []string{fmt.Sprintf("CACHE_FALLBACK_KEY %q not allowed to end in %q", k.human, "-protected")}}
		}
		keys = append(keys, k)
	}
	return keys
}
