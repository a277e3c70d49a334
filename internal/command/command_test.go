package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What is sent is answered: by its name, as JSON, on each kind of topic.
func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startIn(t, t.TempDir(), nil)
		defer r.stop()
		for _, c := range []struct{ topic, payload, want, reason string }{
			{r.Base, "status", "accepted status, done status", ""},
			{r.Base, "status\n", "accepted status, done status", ""},
			{r.Base, " status", "refused", "neither a command's name"},
			{r.Base, "", "refused", "empty"},
			{r.Base, "Hello", "refused Hello", "not among the commands that the owner allows"},
			{r.Base, "../status", "refused", "neither a command's name"},
			{r.Base, `{"command":"status","args":{"n":1,"on":true,"s":"x"}}`, "accepted status, done status", ""},
			{r.Base, `{"command":"fail"}`, "accepted fail, failed fail", "the car does not answer"},
			{r.Base, `off`, "refused off", "cannot be run here"},
			{r.Base, `{"Command":"status"}`, "refused", `"Command" is not known`},
			{r.Base, `{"command":"status","arg":{}}`, "refused status", `"arg" is not known`},
			{r.Base, `{"command":"status","args":{"a":[1]}}`, "refused status", "no text, number"},
			{r.Base, `{"command":"status","args":{"a":"x\u0000"}}`, "refused status", "control characters"},
			{r.Base, `{"command":"status","expires":"tomorrow"}`, "refused status", "no time"},
			{r.Base, `{"command":"status","id":"a b"}`, "refused", "its id is not allowed"},
			{r.Base, `{"command":"status"}{}`, "refused", "no JSON object"},
			{r.Base, "eyJhbGciOiJFZERTQSJ9.e30.AAAA", "refused", "no key to check it with"},
			{r.Base + "/status", "", "accepted status, done status", ""},
			{r.Base + "/status", `{"n":"1"}`, "accepted status, done status", ""},
			{r.Base + "/status", `{"id":"x1","args":{"n":"1"}}`, "accepted status, done status", ""},
			{r.Base + "/status", "wait", "refused status", "the topic says status, the message wait"},
			{r.Base + "/status", `{"command":"wait"}`, "refused status", "the topic says status, the message wait"},
			{r.Base + "/..", "", "refused", "no command's name"},
			{"jetson/control", "status", "accepted status, done status", ""},
			{"jetson/control", "World!", "refused", "neither a command's name"},
		} {
			r.Receive(c.topic, []byte(c.payload), false)
			said := r.said()
			if short(said) != c.want {
				t.Errorf("%s %q: %s; want %s", c.topic, c.payload, short(said), c.want)
				continue
			}
			if last := said[len(said)-1]; !strings.Contains(last.Reason, c.reason) {
				t.Errorf("%s %q: reason %q", c.topic, c.payload, last.Reason)
			}
			time.Sleep(10 * time.Second) // else there are too many refusals
			if rest := r.said(); len(rest) > 0 {
				t.Errorf("%s %q: then %s", c.topic, c.payload, short(rest))
			}
		}
		r.Receive(r.Base, []byte("status"), true)
		if said := r.said(); short(said) != "refused" || !strings.Contains(said[0].Reason, "retained") {
			t.Errorf("retained: %+v", said)
		}
		r.Receive("RakTest/topic", make([]byte, MostPayload), false)
		if said := r.said(); short(said) != "accepted wait" {
			t.Errorf("any message: %s", short(said))
		}
		r.Receive("RakTest/topic", make([]byte, MostPayload+1), false)
		if said := r.said(); short(said) != "refused wait" || !strings.Contains(said[0].Reason, "allowed: 8192") {
			t.Errorf("oversized: %+v", said)
		}
	})
}

// Commands run one after the other as they came, and no more wait than may.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startIn(t, t.TempDir(), nil)
		defer r.stop()
		began := time.Now()
		for n := range mostQueue + 2 {
			said := r.send(fmt.Sprintf(`{"id":"%d","command":"wait"}`, n))
			want := "accepted wait"
			if n > mostQueue { // one runs
				want = "refused wait"
			}
			if short(said) != want {
				t.Errorf("%d: %s %+v", n, short(said), said)
			}
		}
		time.Sleep(time.Hour)
		said := r.said()
		if len(said) != mostQueue+1 {
			t.Fatalf("%d answers", len(said))
		}
		for n, a := range said {
			if at, err := time.Parse(time.RFC3339, a.T); err != nil || a.State != Done || a.ID != fmt.Sprint(n) || at.Sub(began).Round(time.Second) != time.Duration(n+1)*5*time.Second {
				t.Errorf("%d: %+v after %v", n, a, at.Sub(began))
			}
		}
		// A stop: what runs and what waits is answered.
		r.send("wait")
		r.send("wait")
		r.stop()
		if said := r.said(); short(said) != "failed wait, failed wait" || !strings.Contains(said[1].Reason, "it did not run") {
			t.Errorf("at a stop: %+v", said)
		}
	})
}

// An expiry is kept to the moment, while waiting too, and never guessed.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := true
		r := startIn(t, t.TempDir(), func(c *Config) { c.Now = func() (time.Time, bool) { return time.Now(), known } })
		defer r.stop()
		in := func(d time.Duration, command string) string {
			return fmt.Sprintf(`{"command":%q,"expires":%q}`, command, time.Now().Add(d).Format(time.RFC3339Nano))
		}
		for payload, want := range map[string]string{
			in(0, "status"):                       "it expired at",
			in(-time.Hour, "status"):              "it expired at",
			in(mostAhead+time.Second, "status"):   "more than 24h",
			in(time.Nanosecond, "status"):         "",
			in(mostAhead-time.Second, "status"):   "",
			`{"command":"status","expires":null}`: "no time",
		} {
			said := r.send(payload)
			if last := said[len(said)-1]; (last.State == Done) != (want == "") || !strings.Contains(last.Reason, want) {
				t.Errorf("%s: %+v", payload, said)
			}
		}
		r.send("wait")
		if said := r.send(in(3*time.Second, "status")); short(said) != "accepted status" {
			t.Errorf("%+v", said)
		}
		time.Sleep(time.Minute)
		if said := r.said(); short(said) != "done wait, failed status" || !strings.Contains(said[1].Reason, "waited too long") {
			t.Errorf("%+v", said)
		}
		known = false
		if said := r.send(in(time.Minute, "status")); short(said) != "refused status" || !strings.Contains(said[0].Reason, "does not know the time") {
			t.Errorf("unsynced: %+v", said)
		}
		if said := r.send("status"); short(said) != "accepted status, done status" {
			t.Errorf("unsynced, without expiry: %+v", said)
		}
	})
}

// An id runs once, over restarts too; who repeats it learns what became of it.
func TestRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := startIn(t, dir, nil)
		run := `{"id":"7","command":"status","args":{"n":"1"}}`
		if said := r.send(run); short(said) != "accepted status, done status" {
			t.Fatalf("%+v", said)
		}
		said := r.send(run)
		if short(said) != "refused status" || said[0].Became == nil || said[0].Became.State != Done || fmt.Sprint(said[0].Output) != "map[args:map[n:1]]" {
			t.Errorf("repeated: %+v", said)
		}
		r.send(`{"id":"8","command":"fail"}`)
		r.send(`{"id":"9","command":"wait"}`)
		if said := r.send(`{"id":"9","command":"wait"}`); short(said) != "refused wait" || said[0].Became.State != Accepted || !strings.Contains(said[0].Reason, "under way") {
			t.Errorf("under way: %+v", said)
		}
		r.send(`{"id":"10","command":"nothing"}`) // refused: it may be tried again
		if err := os.WriteFile(filepath.Join(dir, "copy"), must(os.ReadFile(filepath.Join(dir, "ids"))), 0o600); err != nil {
			t.Fatal(err)
		}
		r.stop() // ends 9

		r = startIn(t, dir, nil)
		for id, want := range map[string]State{"7": Done, "8": Failed, "9": Failed} {
			if said := r.send(`{"id":"` + id + `","command":"status"}`); short(said) != "refused status" || said[0].Became.State != want {
				t.Errorf("%s after a restart: %+v", id, said)
			}
		}
		if said := r.send(`{"id":"10","command":"status"}`); short(said) != "accepted status, done status" {
			t.Errorf("an id that was refused: %+v", said)
		}
		r.stop()

		// A power cut while 9 ran, and a line cut short.
		torn := append(must(os.ReadFile(filepath.Join(dir, "copy"))), `{"id":"11","comm`...)
		if err := os.WriteFile(filepath.Join(dir, "ids"), torn, 0o600); err != nil {
			t.Fatal(err)
		}
		r = startIn(t, dir, nil)
		defer r.stop()
		if said := r.send(`{"id":"9","command":"wait"}`); short(said) != "refused wait" || said[0].Became.State != Failed || !strings.Contains(said[0].Became.Reason, "not known whether it ran") {
			t.Errorf("after a power cut: %+v", said)
		}
		if said := r.send(`{"id":"11","command":"status"}`); short(said) != "accepted status, done status" {
			t.Errorf("after a power cut: %+v", said)
		}
	})
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// A flood costs bounded answers and records, and ends in one that counts the rest.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := startIn(t, dir, nil)
		defer r.stop()
		const seconds, each = 60, 1000
		for range seconds * each {
			r.Receive(r.Base, []byte("status"), false)
			time.Sleep(time.Second / each)
		}
		time.Sleep(summaryEvery)
		said := r.said()
		count := map[State]int{}
		told, answered := 0, 0
		for _, a := range said {
			count[a.State]++
			switch out, ok := a.Output.(map[string]any)["refused"].(map[string]any); {
			case ok:
				for _, n := range out {
					told += int(n.(float64))
				}
			case a.State != Accepted:
				answered++
			}
		}
		if told+answered != seconds*each {
			t.Errorf("%d answered and %d told of %d", answered, told, seconds*each)
		}
		if most := acceptBurst + acceptRate*seconds; count[Done] > most || count[Done] < most-2 || count[Accepted] != count[Done] {
			t.Errorf("%d accepted, %d done; want %d", count[Accepted], count[Done], most)
		}
		if most := refuseBurst + refuseRate*seconds + seconds/10 + 2; count[Refused] > most {
			t.Errorf("%d refusals; want up to %d", count[Refused], most)
		}
		if done, refused := auditLines(t, dir, "audit.log"), auditLines(t, dir, "refused.log"); len(done)+len(refused) != len(said) || len(refused) != count[Refused] {
			t.Errorf("%d and %d lines for %d answers", len(done), len(refused), len(said))
		}
		time.Sleep(time.Minute)
		if said := r.send("status"); short(said) != "accepted status, done status" {
			t.Errorf("after the flood: %+v", said)
		}
	})
}

// Signatures are checked so often that a small processor has time for the car.
func TestForgeriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startIn(t, t.TempDir(), func(c *Config) { c.PublicKey = ownersPublic })
		defer r.stop()
		forged, err := Request{ID: "x", Command: "status", Expires: time.Now().Add(time.Hour)}.Sign(strangersKey, "van-1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		const seconds, each = 20, 500
		for range seconds * each {
			r.Receive(r.Base, []byte(forged), false)
			time.Sleep(time.Second / each)
		}
		time.Sleep(summaryEvery)
		checked, all := 0, 0
		for _, a := range r.said() {
			counts, ok := a.Output.(map[string]any)["refused"].(map[string]any)
			if !ok {
				checked++
				all++
			}
			for code, n := range counts {
				all += int(n.(float64))
				if code == "bad_signature" {
					checked += int(n.(float64))
				}
			}
		}
		if most := judgeBurst + seconds*judgeRate; all != seconds*each || checked > most+1 || checked < most-5 {
			t.Errorf("%d of %d are told, %d were checked; want %d", all, seconds*each, checked, most)
		}
	})
}

// What nobody reads is dropped, and counted.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startIn(t, t.TempDir(), nil)
		defer r.stop()
		for range 10 * mostInbox { // with no time to judge them
			r.Receive(r.Base, []byte("nothing"), false)
		}
		time.Sleep(summaryEvery)
		said := r.said()
		sum := 0
		for _, n := range said[len(said)-1].Output.(map[string]any)["refused"].(map[string]any) {
			sum += int(n.(float64))
		}
		if len(said) != refuseBurst+1 || sum != 10*mostInbox-refuseBurst {
			t.Errorf("%d answers, the last tells of %d", len(said), sum)
		}
	})
}

// Who repeats an id after its expiry learns what became of it.
func TestRepeatedAfterExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startIn(t, t.TempDir(), nil)
		defer r.stop()
		message := fmt.Sprintf(`{"id":"7","command":"status","expires":%q}`, time.Now().Add(10*time.Second).Format(time.RFC3339))
		if said := r.send(message); short(said) != "accepted status, done status" {
			t.Errorf("%+v", said)
		}
		time.Sleep(time.Minute)
		if said := r.send(message); len(said) != 1 || said[0].State != Refused || said[0].Became == nil || said[0].Became.State != Done {
			t.Errorf("%+v", said)
		}
	})
}
