package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

// At a faster pace no driving event can be judged; who asks for a script of them is told.
func TestDemoTellsOfItsPace(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		args []string
		told bool
	}{
		{[]string{"--script", "events", "--speedup", "4"}, true},
		{[]string{"--script", "events"}, false},
		{[]string{"--speedup", "4"}, false},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p := start(t, w, "telemetryd", append([]string{"demo"}, row.args...)...)
		w.Close()
		if err := r.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		for b := make([]byte, 4096); !strings.Contains(out.String(), "mosquitto_sub"); {
			n, err := r.Read(b)
			if err != nil {
				t.Fatalf("%v: %s", err, out.String())
			}
			out.Write(b[:n])
		}
		r.Close()
		p.end(os.Interrupt)
		if told := strings.Contains(out.String(), "driving events    are not looked for at 4 times the pace"); told != row.told {
			t.Errorf("%v: %s", row.args, out.String())
		}
	}
}
