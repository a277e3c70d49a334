package publish

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// canned is a connection from which bytes come.
type canned struct {
	net.Conn
	io.Reader
}

func (c canned) Read(b []byte) (int, error) { return c.Reader.Read(b) }

// What is not too large comes through unchanged, byte by byte or all at once, and what is,
// with its beginning.
func TestCutter(t *testing.T) {
	publish := func(size int) *packets.PublishPacket {
		p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		p.TopicName, p.Qos, p.MessageID, p.Payload = "vehicles/van-1/command", 1, 77, bytes.Repeat([]byte("payload "), size/8)
		return p
	}
	head := 2 + len("vehicles/van-1/command") + 2
	sizes := []int{0, 8, 96, 120, 128, 16384, mostIncoming - head, mostIncoming - head + 8, 1 << 20, 8, 5 << 20, 0}
	for name, reader := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "with its end": iotest.DataErrReader} {
		var stream bytes.Buffer
		for _, size := range sizes {
			if err := publish(size).Write(&stream); err != nil {
				t.Fatal(err)
			}
			if err := packets.NewControlPacket(packets.Pingresp).Write(&stream); err != nil {
				t.Fatal(err)
			}
		}
		c := &cutter{Conn: canned{Reader: reader(&stream)}}
		for _, size := range sizes {
			p, err := packets.ReadPacket(c)
			if err != nil {
				t.Fatalf("%s, %d: %v", name, size, err)
			}
			got, ok := p.(*packets.PublishPacket)
			want := publish(size).Payload[:min(size/8*8, mostIncoming-head)]
			if !ok || got.TopicName != "vehicles/van-1/command" || got.MessageID != 77 || !bytes.Equal(got.Payload, want) {
				t.Fatalf("%s, %d: %v", name, size, p)
			}
			if p, err := packets.ReadPacket(c); err != nil || p.Details() != (packets.NewControlPacket(packets.Pingresp)).Details() {
				t.Fatalf("%s, behind %d: %v, %v", name, size, p, err)
			}
		}
		if _, err := packets.ReadPacket(c); err != io.EOF {
			t.Errorf("%s: at the end %v", name, err)
		}
	}
}

// A packet of another kind is never large: memory is not set aside for it.
func TestCutterOtherPackets(t *testing.T) {
	for kind := byte(1); kind < 16; kind++ {
		c := &cutter{Conn: canned{Reader: bytes.NewReader([]byte{kind << 4, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3})}}
		if kind == packets.Publish {
			continue
		}
		if n, err := c.Read(make([]byte, 16)); err != errNoSuch || n != 0 {
			t.Errorf("kind %d: %d bytes, %v", kind, n, err)
		}
	}
}

// No bytes of a broker make a PUBLISH that is larger, and what begins with whole packets of
// allowed sizes is what paho would read without the cutter.
func FuzzCutter(f *testing.F) {
	f.Add([]byte{0x30, 5, 0, 1, 'a', 'x', 'y', 0xd0, 0})
	f.Add([]byte{0x3d, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a'})
	f.Add([]byte{0x20, 0x80, 0x80, 0x80, 0x80, 1})
	f.Fuzz(func(t *testing.T, stream []byte) {
		through, err := io.ReadAll(&cutter{Conn: canned{Reader: bytes.NewReader(stream)}})
		if err != nil && err != errTooLong && err != errNoSuch {
			t.Fatal(err)
		}
		for in, out := stream, through; len(in) > 1; {
			length, n := 0, 1
			for ; n < len(in) && n < fixedHeader; n++ {
				length |= int(in[n]&0x7f) << (7 * (n - 1))
				if in[n] < 0x80 {
					n++
					break
				}
			}
			if n > len(in) || in[n-1] >= 0x80 || len(in) < n+length {
				return // no whole packet any more
			}
			if in[0]>>4 == 3 && length > mostIncoming {
				t.Fatal("a stream of this test cannot be as long")
			}
			if len(out) < n+length || !bytes.Equal(out[:n+length], in[:n+length]) {
				t.Fatalf("% x became % x", in, out)
			}
			in, out = in[n+length:], out[n+length:]
		}
	})
}
