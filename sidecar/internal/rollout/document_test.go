package rollout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pointsman/pointsman/sidecar/internal/consul"
)

const valid = `{"schema":1,"service":"api","state":"running","shares":{"1.0":95,"1.1":5},"stable":"1.0","canary":"1.1",
"steps":[5,25,50,100],"interval":"1m0s","step":0,"step_at":"2026-11-29T22:00:00Z","modified_by":"ann@ops","modified_at":"2026-11-29T22:00:00Z",
"history":[{"action":"start","shares":{"1.0":95,"1.1":5},"state":"running","by":"ann@ops","at":"2026-11-29T22:00:00Z"}]}`

// edited returns the valid document with some keys changed; nil takes one away.
func edited(t *testing.T, change map[string]any) []byte {
	t.Helper()
	var d map[string]any
	if err := json.Unmarshal([]byte(valid), &d); err != nil {
		t.Fatal(err)
	}
	for key, value := range change {
		if d[key] = value; value == nil {
			delete(d, key)
		}
	}
	out, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

type m = map[string]any

// tooManyShares leaves no room for another version.
func tooManyShares() map[string]int {
	shares := map[string]int{"1.0": 100}
	for i := range MaxVersions - 1 {
		shares[fmt.Sprint("v", i)] = 0
	}
	return shares
}

func tooMany(n int) m {
	shares := m{}
	for i := range n {
		shares[fmt.Sprint("v", i)] = 0
	}
	shares["v0"] = 100
	return shares
}

// cases are documents that are invalid, with words of the error. Those marked byRule are
// valid by the schema: it has no words for what is wrong.
var cases = []struct {
	name   string
	change m
	words  []string
	byRule bool
}{
	{"another schema", m{"schema": 2}, []string{"schema: 2", "reads 1"}, false},
	{"no schema", m{"schema": nil}, []string{"schema: 0"}, false},
	{"another service", m{"service": "web"}, []string{`service: "web"`, `want "api"`}, true},
	{"an unknown key", m{"weights": m{}}, []string{`unknown field "weights"`}, false},
	{"an unknown state", m{"state": "flying"}, []string{`state: "flying"`, "running"}, false},
	{"no shares", m{"shares": m{}}, []string{"shares: none"}, true},
	{"a sum of 99", m{"shares": m{"1.0": 94, "1.1": 5}}, []string{"shares: their sum is 99, want 100"}, true},
	{"every share 0", m{"shares": m{"1.0": 0, "1.1": 0}}, []string{"shares: their sum is 0, want 100"}, true},
	{"a share above 100", m{"shares": m{"1.0": 105, "1.1": -5}}, []string{`shares["1.0"]: 105`, `shares["1.1"]: -5`}, false},
	{"half a percent", m{"shares": m{"1.0": 99.5, "1.1": 0.5}}, []string{"invalid JSON", "shares"}, false},
	{"too many versions", m{"shares": tooMany(17)}, []string{"shares: 17 versions, want at most 16"}, false},
	{"a long version", m{"shares": m{"1.0": 0, "1.1": 0, strings.Repeat("9", 65): 100}}, []string{"65 characters"}, false},
	{"a version with an escape", m{"shares": m{"1.0": 95, "1.1": 0, "\x1b[2J": 5}}, []string{"printable"}, true},
	{"a stable version that has no share", m{"stable": "0.9"}, []string{`stable: "0.9"`}, true},
	{"one version for both", m{"stable": "1.1"}, []string{"steps: want a stable and a canary version that differ"}, true},
	{"running without steps", m{"steps": nil}, []string{"steps: none"}, false},
	{"steps that fall", m{"steps": []int{50, 25, 100}}, []string{"steps: [1]: 25"}, true},
	{"steps that end early", m{"steps": []int{5, 50}}, []string{"steps: want 100 as the last"}, true},
	{"a step of 0", m{"steps": []int{0, 100}}, []string{"steps: [0]: 0"}, false},
	{"a step beyond", m{"step": 4}, []string{"step: 4, want 0 to 3"}, true},
	{"running without the step's begin", m{"step_at": nil}, []string{"step_at: none"}, false},
	{"a short interval", m{"interval": "1ms"}, []string{"interval: 1ms, want 1s"}, true},
	{"no interval", m{"interval": nil}, []string{"interval: 0s"}, false},
	{"a line end in a name", m{"modified_by": "a\nb"}, []string{"modified_by"}, true},
	{"a long reason", m{"reason": strings.Repeat("x", 301)}, []string{"reason"}, false},
	{"a change with bad shares", m{"history": []m{{"action": "set", "shares": m{"1.0": 101}, "state": "paused", "by": "x", "at": "2026-11-29T22:00:00Z"}}}, []string{`history[0].shares["1.0"]: 101`}, false},
	{"a long history", m{"history": slices.Repeat([]m{{"action": "set", "shares": m{}, "state": "paused", "by": "x", "at": "2026-11-29T22:00:00Z"}}, 21)}, []string{"history: 21 changes"}, false},
}

func TestParse_InvalidDocument_NamesKeyAndValue(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("api", edited(t, c.change))
			if err == nil {
				t.Fatal("it is taken")
			}
			for _, w := range append(c.words, "pointsman/rollouts/api") {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q, want %q in it", err, w)
				}
			}
		})
	}
	wrong := m{}
	for i := range MaxVersions {
		wrong[strings.Repeat("\x01", 60)+fmt.Sprint(i)] = -1
	}
	if _, err := Parse("api", edited(t, m{"shares": wrong})); err == nil || len(err.Error()) > len("key pointsman/rollouts/api: ")+maxError+len(" …") || !strings.HasSuffix(err.Error(), " …") || !strings.HasPrefix(err.Error(), "key pointsman/rollouts/api: ") {
		t.Errorf("much is wrong: the error is %v", err)
	}
	for name, text := range map[string]string{
		"empty": "", "no JSON": "x", "a list": "[]", "two documents": valid + valid, "too long": valid + strings.Repeat(" ", maxBytes),
	} {
		if _, err := Parse("api", []byte(text)); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

func TestParse_ValidDocument_ComesBackTheSame(t *testing.T) {
	for _, change := range []m{{}, {"state": "promoted", "shares": m{}, "stable": nil, "canary": nil, "steps": nil, "interval": nil}, {"step": 3}} {
		d, err := Parse("api", edited(t, change))
		if err != nil {
			t.Fatal(err)
		}
		value, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse("api", value)
		if err != nil || !reflect.DeepEqual(back, d) {
			t.Errorf("got %+v, %v, want %+v", back, err, d)
		}
	}
}

// docs/rollout.schema.json says the same as Parse, where it has words for it.
func TestSchema_EachDocument_SameVerdictAsParse(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../../../docs/rollout.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	verdict := func(value []byte) error {
		is, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(is)
	}
	if err := verdict([]byte(valid)); err != nil {
		t.Errorf("the valid one: %v", err)
	}
	for _, c := range cases {
		if err := verdict(edited(t, c.change)); (err == nil) != c.byRule {
			t.Errorf("%s: the schema says %v", c.name, err)
		}
	}
}

// Every key of the struct is in the schema and the other way round, with its bounds.
func TestSchema_KeysAndBounds_AreThoseOfTheStruct(t *testing.T) {
	type object struct {
		Properties map[string]json.RawMessage
	}
	var schema struct {
		object
		Defs map[string]map[string]any `json:"$defs"`
	}
	readSchema(t, &schema)
	var history struct {
		MaxItems int
		Items    object
	}
	var steps struct{ MaxItems int }
	for key, into := range map[string]any{"history": &history, "steps": &steps} {
		if err := json.Unmarshal(schema.Properties[key], into); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		of   reflect.Type
		have map[string]json.RawMessage
	}{{reflect.TypeFor[Document](), schema.Properties}, {reflect.TypeFor[Change](), history.Items.Properties}} {
		var want []string
		for field := range c.of.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			want = append(want, name)
		}
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(c.have)); !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %q, the struct %q", c.of, got, want)
		}
	}
	number := func(def, key string) int { f, _ := schema.Defs[def][key].(float64); return int(f) }
	for what, is := range map[string][2]int{
		"history": {history.MaxItems, maxHistory}, "steps": {steps.MaxItems, maxSteps}, "versions": {number("shares", "maxProperties"), MaxVersions},
		"version": {number("version", "maxLength"), maxVersion}, "text": {number("text", "maxLength"), consul.MaxText},
	} {
		if is[0] != is[1] {
			t.Errorf("%s: the schema has %d, the program %d", what, is[0], is[1])
		}
	}
	var states []State
	for _, s := range schema.Defs["state"]["enum"].([]any) {
		states = append(states, State(s.(string)))
	}
	if !slices.Equal(states, States) {
		t.Errorf("the schema has the states %q, the program %q", states, States)
	}
}

func readSchema(t *testing.T, into any) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/rollout.schema.json")
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

var ann = Author{"ann@ops", time.Date(2026, 11, 29, 22, 0, 0, 0, time.UTC)}

// After a promotion the canary is what the next rollout goes back to, also by set.
func TestServing_AfterPromotion_IsTheCanary(t *testing.T) {
	d, err := New("api").Start(ann, "1.0", "1.1", []int{5, 100}, time.Minute, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Serving(); got != "1.0" {
		t.Errorf("under way: %s, want 1.0", got)
	}
	if d, err = d.Promote(ann, true); err != nil {
		t.Fatal(err)
	}
	if got := d.Serving(); got != "1.1" {
		t.Errorf("promoted: %s, want 1.1", got)
	}
	for _, c := range []struct {
		shares map[string]int
		stable string
		state  State
	}{
		{map[string]int{"1.0": 0, "1.1": 95, "1.2": 5}, "1.1", Paused},
		{map[string]int{"1.0": 50, "1.1": 50}, "1.0", Paused},
		{map[string]int{"1.0": 0, "1.1": 100}, "1.0", Promoted},
	} {
		if n, err := d.Set(ann, c.shares, ""); err != nil || n.Stable != c.stable || n.State != c.state {
			t.Errorf("set %v: %+v, %v, want stable %s and %s", c.shares, n, err, c.stable, c.state)
		}
	}
	if d, err = d.Abort(ann, ""); err != nil || d.Serving() != "1.0" {
		t.Errorf("aborted: %s, %v, want 1.0", d.Serving(), err)
	}
}

// Each command's document is one that Parse takes.
func TestChange_EachCommand_GivesStateSharesAndHistory(t *testing.T) {
	type change func(*Document) (*Document, error)
	set := func(shares map[string]int) change {
		return func(d *Document) (*Document, error) { return d.Set(ann, shares, "") }
	}
	start := func(d *Document) (*Document, error) {
		return d.Start(ann, "1.0", "1.1", []int{5, 50, 100}, time.Minute, "")
	}
	promote := func(d *Document) (*Document, error) { return d.Promote(ann, false) }
	full := func(d *Document) (*Document, error) { return d.Promote(ann, true) }
	pause := func(d *Document) (*Document, error) { return d.Pause(ann, "") }
	resume := func(d *Document) (*Document, error) { return d.Resume(ann) }
	abort := func(d *Document) (*Document, error) { return d.Abort(ann, "") }
	undo := func(d *Document) (*Document, error) { return d.Undo(ann) }
	end := func(d *Document) (*Document, error) { return d.End(ann) }
	// ended is a rollout from 0.9 to 1.0 that is over, prepare the begin of one to 1.1.
	ended := []change{set(map[string]int{"0.9": 100, "1.0": 0}), full, end}
	prepare := func(d *Document) (*Document, error) {
		n, err := d.Set(ann, map[string]int{"1.0": 100, "1.1": 0}, "1.0")
		if err == nil {
			n.History[0].Action = Prepared
		}
		return n, err
	}
	for _, c := range []struct {
		name    string
		changes []change
		want    string // state and shares, or the error's words
	}{
		{"set", []change{set(map[string]int{"1.0": 95, "1.1": 5})}, "paused, 1.0 95%, 1.1 5%"},
		{"set to the canary", []change{set(map[string]int{"1.0": 95, "1.1": 5}), set(map[string]int{"1.0": 0, "1.1": 100})}, "promoted, 1.0 0%, 1.1 100%"},
		{"set by halves", []change{set(map[string]int{"1.0": 50, "1.1": 50})}, "--stable"},
		{"set by halves later", []change{set(map[string]int{"1.0": 95, "1.1": 5}), set(map[string]int{"1.0": 50, "1.1": 50})}, "paused, 1.0 50%, 1.1 50%"},
		{"set to 99", []change{set(map[string]int{"1.0": 94, "1.1": 5})}, "sum is 99"},
		{"abort", []change{set(map[string]int{"1.0": 95, "1.1": 5}), abort}, "aborted, 1.0 100%, 1.1 0%"},
		{"abort twice", []change{set(map[string]int{"1.0": 95, "1.1": 5}), abort, abort}, "aborted already"},
		{"abort nothing", []change{abort}, "no rollout"},
		{"undo an abort", []change{set(map[string]int{"1.0": 95, "1.1": 5}), abort, undo}, "paused, 1.0 95%, 1.1 5%"},
		{"undo nothing", []change{undo}, "no other shares"},
		{"undo in the preview", slices.Concat(ended, []change{set(map[string]int{"1.0": 100, "1.1": 0}), undo}), "no other shares are recorded since the rollout began"},
		{"undo after an abort in the preview", slices.Concat(ended, []change{set(map[string]int{"1.0": 100, "1.1": 0}), abort, undo}), "no other shares are recorded since the rollout began"},
		{"undo the switch after another rollout", slices.Concat(ended, []change{prepare, full, undo}), "paused, 1.0 100%, 1.1 0%"},
		{"undo an undo of the switch", slices.Concat(ended, []change{prepare, full, undo, undo}), "promoted, 1.0 0%, 1.1 100%"},
		{"undo an end", slices.Concat(ended, []change{undo}), "paused, 0.9 0%, 1.0 100%"},
		{"undo in the preview of a version that was switched and aborted before", []change{prepare, full, abort, prepare, undo}, "no other shares are recorded since the rollout began"},
		{"undo what lists a version more", []change{set(map[string]int{"0.9": 100, "1.0": 0}), full, set(map[string]int{"0.9": 0, "1.0": 95, "1.1": 5}), undo}, "paused, 0.9 0%, 1.0 100%, 1.1 0%"},
		{"undo what only lists a version more", []change{set(map[string]int{"0.9": 100, "1.0": 0}), full, set(map[string]int{"0.9": 0, "1.0": 100, "1.1": 0}), undo}, "gave no version another share"},
		{"promote what was set", []change{set(map[string]int{"1.0": 95, "1.1": 5}), promote}, "promoted, 1.0 0%, 1.1 100%"},
		{"start", []change{start}, "running, 1.0 95%, 1.1 5%"},
		{"start keeps the others at 0", []change{set(map[string]int{"1.0": 100, "1.1": 0, "0.9": 0}), start}, "running, 0.9 0%, 1.0 95%, 1.1 5%"},
		{"start beside too many others", []change{set(tooManyShares()), start}, "17 versions would have a share, want at most 16"},
		{"start twice", []change{start, start}, "is running, by ann@ops at 2026-11-29T22:00:00Z"},
		{"promote one step", []change{start, promote}, "running, 1.0 50%, 1.1 50%"},
		{"promote to the end", []change{start, promote, promote}, "promoted, 1.0 0%, 1.1 100%"},
		{"promote at once", []change{start, full}, "promoted, 1.0 0%, 1.1 100%"},
		{"promote again", []change{start, full, promote}, "promoted already"},
		{"promote what was aborted", []change{start, abort, promote}, "was aborted"},
		{"pause", []change{start, pause}, "paused, 1.0 95%, 1.1 5%"},
		{"pause twice", []change{start, pause, pause}, "is paused"},
		{"resume", []change{start, pause, resume}, "running, 1.0 95%, 1.1 5%"},
		{"resume what was set", []change{set(map[string]int{"1.0": 95, "1.1": 5}), resume}, "has no steps"},
		{"promote while paused", []change{start, pause, promote}, "running, 1.0 50%, 1.1 50%"},
		{"abort after the promotion", []change{start, full, abort}, "aborted, 1.0 100%, 1.1 0%"},
		{"end", []change{start, full, end}, "promoted, no shares"},
		{"end under way", []change{start, end}, "promote or abort it first"},
		{"start after the end", []change{start, full, end, start}, "running, 1.0 95%, 1.1 5%"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := New("api")
			for i, change := range c.changes {
				n, err := change(d)
				if err != nil {
					if i < len(c.changes)-1 || !strings.Contains(err.Error(), c.want) {
						t.Errorf("change %d: %v", i, err)
					}
					return
				}
				value, err := n.Encode()
				if err != nil {
					t.Fatalf("change %d: %v", i, err)
				}
				if n, err = Parse("api", value); err != nil {
					t.Fatalf("change %d: %v", i, err)
				}
				if h := n.History[0]; len(n.History) != i+1 || h.State != n.State || h.By != "ann@ops" || !h.At.Equal(ann.At) || !maps.Equal(h.Shares, n.Shares) {
					t.Errorf("change %d is recorded as %+v", i, h)
				}
				d = n
			}
			if got := describe(d); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// After the promotion the way back to the stable version is an abort: an undo goes back
// one change of the shares, also that of an abort.
func TestDocument_AfterPromotion_AbortGoesBackAndUndoOneStep(t *testing.T) {
	at := Author{"ann@ops1", time.Now()}
	d, err := New("api").Start(at, "1.0", "1.1", []int{5, 50, 100}, time.Minute, "")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		at.At = at.At.Add(2 * time.Minute)
		d = d.Next(at, Judgement{Verdict: Pass})
	}
	aborted, err := d.Abort(at, "")
	if d.State != Promoted || err != nil || aborted.State != Aborted || aborted.SharesText() != "1.0 100%, 1.1 0%" {
		t.Fatalf("%s %s: aborted: %+v, %v", d.State, d.SharesText(), aborted, err)
	}
	for _, c := range []struct {
		is   *Document
		want string
	}{{d, "1.0 50%, 1.1 50%"}, {aborted, "1.0 0%, 1.1 100%"}} {
		if undone, err := c.is.Undo(at); err != nil || undone.SharesText() != c.want {
			t.Errorf("undo after %s gives %+v, %v, want %s", c.is.State, undone, err, c.want)
		}
	}
}

// A version that is not listed has traffic as without a rollout, so an undo may take none
// off the list.
func TestUndo_AfterAnyChanges_KeepsEachVersionListed(t *testing.T) {
	versions := []string{"1.0", "1.1", "1.2", "1.3"}
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		d := New("api")
		for range 12 {
			shares := map[string]int{}
			for _, i := range rng.Perm(len(versions))[:2+rng.IntN(2)] {
				shares[versions[i]] = 0
			}
			shares[slices.Sorted(maps.Keys(shares))[rng.IntN(len(shares))]] = 100
			var n *Document
			var err error
			switch rng.IntN(7) {
			case 0, 1:
				n, err = d.Set(ann, shares, slices.Min(slices.Collect(maps.Keys(shares))))
			case 2:
				n, err = d.Start(ann, "1.0", versions[1+rng.IntN(3)], []int{5, 100}, time.Minute, "")
			case 3:
				n, err = d.Promote(ann, false)
			case 4:
				n, err = d.Abort(ann, "")
			case 5:
				n, err = d.End(ann)
			default:
				if n, err = d.Undo(ann); err != nil {
					break
				}
				for version := range d.Shares {
					if _, isListed := n.Shares[version]; !isListed {
						t.Fatalf("seed %d: undo of %s gives %s", seed, d.SharesText(), n.SharesText())
					}
				}
			}
			if err == nil {
				d = n
			}
		}
	}
}
