package presign

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/script"
)

// azureVersion of the service decides what a signature is made of.
const azureVersion = "2020-12-06"

// azure signs for Azure Blob Storage, with the account's key.
type azure struct {
	account, container, host string
	key                      []byte
	now                      func() time.Time
}

func newAzure(c *config.CacheAzure) (*azure, error) {
	switch {
	case c == nil || c.ContainerName == "":
		return nil, errors.New("azure: ContainerName is not set")
	case c.AccountName == "":
		return nil, errors.New("azure: AccountName is not set")
	case c.AccountKey == "":
		return nil, errors.New("azure: AccountKey is not set; managed identities cannot sign here")
	}
	key, err := base64.StdEncoding.DecodeString(c.AccountKey.Reveal())
	if err != nil {
		return nil, errors.New("azure: AccountKey is not in base64")
	}
	domain := c.StorageDomain
	if domain == "" {
		domain = "blob.core.windows.net"
	}
	return &azure{c.AccountName, c.ContainerName, c.AccountName + "." + domain, key, time.Now}, nil
}

func (a *azure) link(_ context.Context, o object) (script.Link, error) {
	l := script.Link{URL: a.signed(o, "r")}
	l.HeadURL = l.URL
	if o.upload {
		l.URL = a.signed(o, "cw")
		l.Header = map[string]string{"X-Ms-Blob-Type": "BlockBlob", "X-Ms-Version": azureVersion, "X-Ms-Meta-Cachekey": metadata(o.key)}
	}
	return l, nil
}

// signed is an address with a service SAS for one blob.
func (a *azure) signed(o object, permissions string) job.Secret {
	const form = "2006-01-02T15:04:05Z"
	now := a.now().UTC()
	start, end := now.Add(-time.Hour).Format(form), now.Add(o.life).Format(form)
	text := strings.Join([]string{
		permissions, start, end, "/blob/" + a.account + "/" + a.container + "/" + o.name,
		"", "", "https", azureVersion, "b", "", "", "", "", "", "", "",
	}, "\n")
	mac := hmac.New(sha256.New, a.key)
	mac.Write([]byte(text))
	query := url.Values{
		"sv": {azureVersion}, "spr": {"https"}, "st": {start}, "se": {end}, "sr": {"b"}, "sp": {permissions},
		"sig": {base64.StdEncoding.EncodeToString(mac.Sum(nil))},
	}
	return job.Secret("https://" + a.host + "/" + a.container + "/" + escaped(o.name) + "?" + query.Encode())
}
