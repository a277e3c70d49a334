package gps

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/internal/port"
)

func TestHear(t *testing.T) {
	usb, acm := port.Address{Scheme: "serial", Path: "/dev/ttyUSB9"}, port.Address{Scheme: "serial", Path: "/dev/ttyACM9"}
	const noise = "\xf8\x00\x86\x98"
	frames := strings.Repeat("\xb5\x62\x01\x07\x02\x00$\x00\x08\x19", 4)
	for _, c := range []struct {
		name  string
		a     port.Address
		says  func(n, baud int) string // every second
		want  Heard
		limit time.Duration
	}{
		{"nothing", usb, nil, Heard{}, 3 * time.Second},
		{"nothing, USB", acm, nil, Heard{}, 3 * time.Second},
		{"with a fix", usb, func(n, _ int) string { return second(n) }, Heard{Sentences: 8, Fixes: 1, Baud: 9600}, 3 * time.Second},
		{"at 4800", usb, func(n, baud int) string {
			if baud != 4800 {
				return noise
			}
			return second(n)
		}, Heard{Sentences: 8, Fixes: 1, Baud: 4800}, 12 * time.Second},
		{"without a fix", acm, func(int, int) string { return saying("GPRMC,120000,V,,,,,,,231126,,", "GPGSA,A,1,,,,") }, Heard{Sentences: 6}, 5 * time.Second},
		{"UBX", usb, func(_, baud int) string {
			if baud != 38400 {
				return noise
			}
			return frames
		}, Heard{Binary: true, Baud: 38400}, 8 * time.Second},
		{"noise", usb, func(int, int) string { return noise }, Heard{}, 16 * time.Second},
		{"an adapter's banner, USB", acm, func(int, int) string { return "ELM327 v1.5\r\r>" }, Heard{}, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				d := &device{chunks: make(chan port.Chunk, 100), baud: firstRate(c.a).Baud, uptime: func() time.Duration { return time.Since(began) }}
				done := make(chan struct{})
				go func() {
					for n := 0; c.says != nil; n++ {
						d.send(c.says(n, d.rate()))
						select {
						case <-time.After(time.Second):
						case <-done:
							return
						}
					}
				}()
				got, err := hear(t.Context(), c.a, d)
				took := time.Since(began)
				close(done)
				synctest.Wait()
				if spoke := got.Bytes > 0; spoke != (c.says != nil) {
					t.Errorf("%d bytes", got.Bytes)
				}
				got.Bytes = 0
				if got != c.want || err != nil || took > c.limit {
					t.Errorf("%+v, %v after %v, want %+v within %v", got, err, took, c.want, c.limit)
				}
				if d.said != nil {
					t.Errorf("%q was written", d.said)
				}
			})
		})
	}
	d := &device{chunks: make(chan port.Chunk), uptime: func() time.Duration { return 0 }}
	d.unplug()
	if _, err := hear(t.Context(), usb, d); !errors.Is(err, io.EOF) {
		t.Errorf("unplugged: %v", err)
	}
}
