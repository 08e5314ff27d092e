package registrator_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
)

// Issue 14: whatever is registered as a sidecar, or stands between, can say "drained".
// A node that has the key believes only who has it, too, and only about this question.
func TestSigningKey_AnswersWithoutIt_AreNotBelieved(t *testing.T) {
	const key, next = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
	sign := func(key string) func(http.ResponseWriter, *http.Request, []byte) {
		return func(w http.ResponseWriter, r *http.Request, body []byte) {
			w.Header().Set(contract.HeaderSignature, contract.Sign(key, r.Header.Get(contract.HeaderNonce), r.RequestURI, http.StatusOK, body))
		}
	}
	for name, c := range map[string]struct {
		sign func(w http.ResponseWriter, r *http.Request, body []byte)
		says string // "" is to be believed
	}{
		"signed":                   {sign: sign(key)},
		"signed with the next key": {sign: sign(next)},
		"not signed":               {sign: func(http.ResponseWriter, *http.Request, []byte) {}, says: "answer not signed"},
		"signed with another key":  {sign: sign(key + "x"), says: "another key"},
		"an answer of before, sent again": {sign: func(w http.ResponseWriter, r *http.Request, body []byte) {
			w.Header().Set(contract.HeaderSignature, contract.Sign(key, "00112233445566778899aabbccddeeff", r.RequestURI, http.StatusOK, body))
		}, says: "another request"},
		"an answer about another instance": {sign: func(w http.ResponseWriter, r *http.Request, body []byte) {
			w.Header().Set(contract.HeaderSignature, contract.Sign(key, r.Header.Get(contract.HeaderNonce), strings.Replace(r.RequestURI, "api-1", "api-2", 1), http.StatusOK, body))
		}, says: "another request"},
		"an answer with other sessions": {sign: func(w http.ResponseWriter, r *http.Request, body []byte) {
			w.Header().Set(contract.HeaderSignature, contract.Sign(key, r.Header.Get(contract.HeaderNonce), r.RequestURI, http.StatusOK, bytes.Replace(body, []byte("true"), []byte("false"), 1)))
		}, says: "another request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drained := newSidecar("lb0")
			drained.drained = true
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := httptest.NewRecorder()
				drained.ServeHTTP(answer, r)
				c.sign(w, r, answer.Body.Bytes())
				w.WriteHeader(answer.Code)
				_, _ = w.Write(answer.Body.Bytes())
			}))
			t.Cleanup(server.Close)
			path := filepath.Join(t.TempDir(), "key")
			write(t, path, key+"\n"+next+"\n")
			f := &agentFake{}
			config := fakeConfig(f)
			config.LeaveWait, config.Sidecars.SigningKeyFile = 200*time.Millisecond, path
			f.change(func() { f.sidecars = append(f.sidecars, balancer("lb0", server.Listener.Addr().String())) })
			var got registrator.Drain
			config.OnDrain = func(d registrator.Drain) { got = d }
			if err := registered(t, config).Leave(t.Context(), nil); err != nil {
				t.Error(err)
			}
			switch {
			case c.says == "" && got.Outcome != registrator.OutcomeDrained:
				t.Errorf("got %+v, want it believed", got)
			case c.says != "" && (got.Outcome != registrator.OutcomeWaited || got.Reason == nil || !strings.Contains(got.Reason.Error(), c.says)):
				t.Errorf("got %+v, want it not believed, for %q", got, c.says)
			}
		})
	}
}

func TestSigningKey_ThatCouldBeGuessed_IsRefused(t *testing.T) {
	for text, want := range map[string]string{"hush": "key 1: signing key: 4 characters: want at least 32", strings.Repeat("k", 32) + "\nhush\n": "key 2: ", "": "empty"} {
		path := filepath.Join(t.TempDir(), "key")
		write(t, path, text)
		config := fakeConfig(&agentFake{})
		config.Sidecars.SigningKeyFile = path
		if _, err := registrator.New(config); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "kkk") {
			t.Errorf("%q: got %v, want %q, and the key not shown", text, err, want)
		}
	}
}
