package load

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// maxBody is the longest body of a POST, in bytes.
const maxBody = 4 << 10

// request is one request before it is sent.
type request struct {
	due    time.Time
	to     *target
	url    string // to an API node with the id
	method string
	id     string
	fresh  bool
	body   []byte // of a POST
	sum    string // SHA-256 of the body, hexadecimal
}

// newRequest makes up the request that is due.
func (l *Load) newRequest(t tick) request {
	to := l.targets.turn(t.number)
	r := request{
		due:    t.due,
		to:     to,
		method: http.MethodGet,
		id:     strconv.FormatUint(rand.Uint64(), 16),
		fresh:  rand.Float64() < l.config.FreshShare,
	}
	u := *to.url
	if l.config.Echo {
		query := u.Query()
		query.Set("id", r.id)
		u.RawQuery = query.Encode()
	}
	r.url = u.String()
	if rand.Float64() < l.config.PostShare {
		r.method = http.MethodPost
		r.body = randomBytes(1 + rand.IntN(maxBody))
		sum := sha256.Sum256(r.body)
		r.sum = hex.EncodeToString(sum[:])
	}
	return r
}

func randomBytes(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(rand.Uint32())
	}
	return out
}
