package contract

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// The headers of a signed answer: the question brings a nonce, and the answer the
// signature.
const (
	HeaderNonce     = "Pointsman-Nonce"
	HeaderSignature = "Pointsman-Signature"
)

// The bounds of what goes into a signature, in characters.
const (
	MinSigningKey = 32
	MaxNonce      = 64
)

// CheckSigningKey refuses a key that could be guessed.
func CheckSigningKey(key string) error {
	if len(key) < MinSigningKey {
		return fmt.Errorf("signing key: %d characters: want at least %d, as `openssl rand -hex 32` prints", len(key), MinSigningKey)
	}
	return nil
}

// CheckNonce refuses a nonce that is none: 1 to MaxNonce hexadecimal digits.
func CheckNonce(nonce string) error {
	if _, err := hex.DecodeString(nonce); err != nil || nonce == "" || len(nonce) > MaxNonce {
		return errors.New(HeaderNonce + ": want 1 to 64 hexadecimal digits, an even number")
	}
	return nil
}

// Sign returns the signature of an answer to the question with that nonce and that
// request URI: HMAC-SHA-256 in hexadecimal digits, over the length and the bytes of
// each part. The nonce makes an older answer worthless, the URI that of another request.
func Sign(key, nonce, uri string, status int, body []byte) string {
	mac := hmac.New(sha256.New, []byte(key))
	for _, part := range [][]byte{[]byte("pointsman answer 1"), []byte(nonce), []byte(uri), []byte(strconv.Itoa(status)), body} {
		fmt.Fprintf(mac, "%d:", len(part)) // hash.Hash never fails
		mac.Write(part)
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// IsSigned reports whether a signature is that of the answer, in a time that tells
// nothing about it.
func IsSigned(signature, key, nonce, uri string, status int, body []byte) bool {
	return hmac.Equal([]byte(signature), []byte(Sign(key, nonce, uri, status, body)))
}
