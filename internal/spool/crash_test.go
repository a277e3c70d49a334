package spool

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// appendForEver is the child: it appends and tells what is promised, until killed.
func appendForEver(dir string) {
	s, err := Open(dir, Options{StreamID: fmt.Sprint("stream", os.Getpid()), MaxBytes: 64 << 20})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	id, last, _ := s.Previous()
	fmt.Printf("previous %s %d\n", id, last)
	for i := uint64(1); ; i++ {
		c := Telemetry
		if i%7 == 1 {
			c = Event
		}
		r, err := s.Append(c, fmt.Appendf(nil, "%s %d %s", s.id, i, strings.Repeat("x", int(i%900))))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Printf("promised %d\n", r.Seq)
		if i%3 == 0 {
			old, ok, err := s.Next(Telemetry, 0)
			if err == nil && ok {
				fmt.Printf("acked %s %d\n", old.StreamID, old.Seq)
				s.Ack(old.LSN)
			}
		}
	}
}

// A process killed at any moment loses nothing that it promised.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	promised := map[string]uint64{} // last seq by stream
	acked := map[string]bool{}
	previous := ""
	for range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SPOOL_TEST_APPEND="+dir)
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(100+rand.IntN(300))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		stream := fmt.Sprint("stream", cmd.Process.Pid)
		for in := bufio.NewScanner(out); in.Scan(); {
			var word, id string
			var seq uint64
			switch word, _, _ = strings.Cut(in.Text(), " "); word {
			case "previous":
				_, _ = fmt.Sscanf(in.Text(), "previous %s %d", &id, &seq)
				// One more than was told may have become durable before the kill.
				if previous != "" && (id != previous || seq < promised[previous] || seq > promised[previous]+1) {
					t.Errorf("previous is %s %d, want %s %d", id, seq, previous, promised[previous])
				}
				if previous != "" {
					promised[previous] = seq
				}
			case "promised":
				_, _ = fmt.Sscanf(in.Text(), "promised %d", &seq)
				if seq != promised[stream]+1 {
					t.Errorf("seq %d after %d", seq, promised[stream])
				}
				promised[stream] = seq
			case "acked":
				_, _ = fmt.Sscanf(in.Text(), "acked %s %d", &id, &seq)
				acked[fmt.Sprint(id, " ", seq)] = true
			}
		}
		kill.Stop()
		_ = cmd.Wait()
		if promised[stream] > 0 {
			previous = stream
		}
	}
	s := open(t, dir, "reader", 64<<20)
	have := map[string]bool{}
	for _, r := range append(drain(t, s, Telemetry), drain(t, s, Event)...) {
		have[fmt.Sprint(r.StreamID, " ", r.Seq)] = true
		if want := fmt.Sprintf("%s %d ", r.StreamID, r.Seq); !strings.HasPrefix(string(r.Payload), want) {
			t.Errorf("%s %d holds %.40q", r.StreamID, r.Seq, r.Payload)
		}
	}
	total := uint64(0)
	for id, last := range promised {
		for seq := uint64(1); seq <= last; seq++ {
			if key := fmt.Sprint(id, " ", seq); !have[key] && !acked[key] {
				t.Errorf("%s was promised and is gone", key)
			}
		}
		total += last
	}
	if len(s.Gaps()) > 0 {
		t.Errorf("gaps %v", s.Gaps())
	}
	t.Logf("%d records promised in %d lives", total, len(promised))
}
