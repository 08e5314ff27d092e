package api

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/internal/credential"
	"github.com/pointsman/pointsman/registrator/contract"
)

// signing has the answers signed where there is a key. The file is read once, so that
// errors show at the start.
func signing(o Options, next http.Handler) (http.Handler, error) {
	if o.SigningKeyFile == "" {
		return next, nil
	}
	keys := credential.NewSigningKeys(o.SigningKeyFile, contract.CheckSigningKey)
	if _, err := keys.Current(); err != nil {
		return nil, fmt.Errorf("api.signing_key_file: %w", err)
	}
	return signed(keys, o.Logger, next), nil
}

// signed signs the answers to questions that bring a nonce, with the first key. A node
// that has the key believes no others.
func signed(keys *credential.File[[]string], log hclog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nonce := r.Header.Get(contract.HeaderNonce)
		if nonce == "" {
			next.ServeHTTP(w, r)
			return
		}
		if err := contract.CheckNonce(nonce); err != nil {
			writeJSON(w, http.StatusBadRequest, problem{err.Error()})
			return
		}
		answer := &kept{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		current, err := keys.Current()
		if err != nil {
			log.Error("signing key unreadable, answers are not signed", "error", err)
		} else {
			w.Header().Set(contract.HeaderSignature, contract.Sign(current[0], nonce, r.RequestURI, answer.status, answer.body.Bytes()))
		}
		w.WriteHeader(answer.status)
		_, _ = w.Write(answer.body.Bytes()) // a client that has gone
	})
}

// kept is an answer that is not sent yet. Those to long polls are small.
type kept struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (k *kept) WriteHeader(status int)      { k.status = status }
func (k *kept) Write(p []byte) (int, error) { return k.body.Write(p) }

// Unwrap lets the deadlines of the connection be set.
func (k *kept) Unwrap() http.ResponseWriter { return k.ResponseWriter }
