// Package presign makes addresses for single cache objects in an object
// storage: S3 and what speaks like it, Google Cloud Storage, Azure Blob
// Storage. An address opens one object, one way, for a limited time; the
// credentials that sign it never leave the runner.
//
// Objects are named PATH/[runner/SHORT/]project/ID/NAME, as GitLab Runner
// names them, so that both share caches.
package presign

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/script"
)

// Store signs addresses for one runner entry. Its methods may be called at
// the same time.
type Store struct {
	c     *config.Cache
	short string
	sign  signer
}

// object is one request that is to be signed.
type object struct {
	name   string
	key    string // for people, may hold anything
	upload bool
	life   time.Duration
}

type signer interface {
	link(ctx context.Context, o object) (script.Link, error)
}

// New returns the storage that a configuration names, nil when it names none.
// short is the runner's short token; bus hears of the roles that are assumed.
func New(c *config.Cache, short string, bus *event.Bus) (*Store, error) {
	if c == nil || c.Type == "" {
		return nil, nil //nolint:nilnil // no storage is no error
	}
	s := &Store{c: c, short: short}
	var err error
	switch strings.ToLower(c.Type) {
	case "s3", "s3v2":
		s.sign, err = newS3(c.S3, bus)
	case "gcs", "gcsv2":
		s.sign, err = newGCS(c.GCS, c.MaxUploadedArchiveSize)
	case "azure":
		s.sign, err = newAzure(c.Azure)
	default:
		err = fmt.Errorf("unknown type %q", c.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("[runners.cache]: %w", err)
	}
	return s, nil
}

// maxLife is the longest that S3 and GCS sign for.
const maxLife = 7 * 24 * time.Hour

// Link signs addresses for o that are good for life.
func (s *Store) Link(ctx context.Context, o script.CacheObject, life time.Duration) (script.Link, error) {
	name, err := s.name(o)
	if err != nil {
		return script.Link{}, err
	}
	return s.sign.link(ctx, object{name, o.Key, o.Upload, min(max(life, time.Minute), maxLife)})
}

// name is the object's name in the bucket.
func (s *Store) name(o script.CacheObject) (string, error) {
	if o.Name == "" || path.Clean("/"+o.Name) != "/"+o.Name {
		return "", fmt.Errorf("cache name %q leads out of its project", o.Name)
	}
	parts := []string{strings.Trim(s.c.Path, "/")}
	if !s.c.Shared {
		parts = append(parts, "runner", s.short)
	}
	parts = append(parts, "project", strconv.FormatInt(o.Project, 10))
	return path.Join(parts...) + "/" + o.Name, nil
}

// metadata makes a key fit into a header.
func metadata(key string) string {
	for i := range len(key) {
		if c := key[i]; c < ' ' || c > '~' {
			return url.PathEscape(key)
		}
	}
	return strings.TrimSpace(key)
}

// escaped escapes a path as signatures want it: all but unreserved characters.
func escaped(name string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '/', c == '-', c == '_', c == '.', c == '~', '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			b.WriteByte(c)
		default:
			b.WriteString("%" + string(hex[c>>4]) + string(hex[c&15]))
		}
	}
	return b.String()
}
