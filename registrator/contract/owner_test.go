package contract_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/registrator/contract"
)

func TestOwner_Format_ReadBack(t *testing.T) {
	want := contract.Owner{Token: "K3J2", Since: time.Date(2026, 11, 29, 11, 30, 0, 0, time.UTC)}
	if got := contract.ParseOwner(want.Format()); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestOwner_Unreadable_IsNotSaid(t *testing.T) {
	for name, meta := range map[string]map[string]string{
		"absent":     nil,
		"empty":      {contract.KeyOwner: "", contract.KeySince: ""},
		"hostile":    {contract.KeyOwner: "a\nb", contract.KeySince: "soon"},
		"too long":   {contract.KeyOwner: strings.Repeat("x", contract.MaxOwner+1)},
		"a far year": {contract.KeySince: "0000-01-01T00:00:00+23:59"},
	} {
		if got := contract.ParseOwner(meta); got != (contract.Owner{}) {
			t.Errorf("%s: got %+v, want nothing said", name, got)
		}
	}
}
