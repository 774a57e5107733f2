package jwt

import (
	"strings"
	"sync"
)

const (
	shards   = 16
	perShard = 256
)

// A cache remembers tokens that were verified: nobody can fill it who has none. It is safe for concurrent use.
type cache struct{ shards [shards]shard }

type shard struct {
	mu    sync.RWMutex
	known map[string]*verified
}

// A verified is a token with the rule and the keys by which it was; when those are no more, it is not either.
type verified struct {
	token *Token
	rule  *Rule
	keys  *KeySet
}

// shard goes by the end of the token, which is that of a signature.
func (c *cache) shard(token string) *shard {
	n := 0
	for _, b := range []byte(token[max(0, len(token)-4):]) {
		n += int(b)
	}
	return &c.shards[n%shards]
}

func (c *cache) get(token string) *verified {
	s := c.shard(token)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.known[token]
}

// put keeps a token. Where a shard is full, it begins anew.
func (c *cache) put(token string, v *verified) {
	s := c.shard(token)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= perShard {
		s.known = make(map[string]*verified)
	}
	s.known[strings.Clone(token)] = v
}

// drop forgets a token.
func (c *cache) drop(token string) {
	s := c.shard(token)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, token)
}
