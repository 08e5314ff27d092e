package api

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/registrator/contract"
)

func signingKey(t *testing.T, key string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSignature_AnswersWithNonce_AreSigned(t *testing.T) {
	const key = "0123456789abcdef0123456789abcdef"
	w := newWorld()
	to := polled(t, w, func(o *Options) { o.SigningKeyFile = signingKey(t, key+"\nfedcba9876543210fedcba9876543210") }) // signs with the first
	ask := func(path, nonce string) (status int, signature string, body []byte) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, to.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if nonce != "" {
			r.Header.Set(contract.HeaderNonce, nonce)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		if body, err = io.ReadAll(answer.Body); err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, answer.Header.Get(contract.HeaderSignature), body
	}
	for _, path := range []string{"/api/v1/drain/api/api-1?index=0&wait=0s", "/api/v1/drain/other/api-1?wait=0s"} {
		status, signature, body := ask(path, "00ff")
		if len(body) == 0 || !contract.IsSigned(signature, key, "00ff", path, status, body) {
			t.Errorf("%s: got %d, %q, signed %q, want it signed", path, status, body, signature)
		}
		for what, is := range map[string]bool{
			"another nonce":  contract.IsSigned(signature, key, "00fe", path, status, body),
			"another path":   contract.IsSigned(signature, key, "00ff", path+"0", status, body),
			"another status": contract.IsSigned(signature, key, "00ff", path, status+1, body),
			"another body":   contract.IsSigned(signature, key, "00ff", path, status, body[1:]),
			"another key":    contract.IsSigned(signature, key+"0", "00ff", path, status, body),
			"no signature":   contract.IsSigned("", key, "00ff", path, status, body),
		} {
			if is {
				t.Errorf("%s: the signature counts for %s", path, what)
			}
		}
	}
	if status, signature, _ := ask("/api/v1/drain/api/api-1?wait=0s", ""); status != http.StatusOK || signature != "" {
		t.Errorf("without a nonce: got %d, signed %q, want it as without a key", status, signature)
	}
	if status, signature, _ := ask("/api/v1/drain/api/api-1?wait=0s", "no number"); status != http.StatusBadRequest || signature != "" {
		t.Errorf("a nonce that is none: got %d, signed %q, want 400", status, signature)
	}
}

func TestSignature_KeyThatIsNone_NoServer(t *testing.T) {
	for key, want := range map[string]string{"short": "at least 32", "": "empty"} {
		o := options()
		w := newWorld()
		o.Watch, o.SigningKeyFile = w.watch, signingKey(t, key)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "api.signing_key_file") || !strings.Contains(err.Error(), want) {
			t.Errorf("key %q: got %v, want %q", key, err, want)
		}
	}
}
