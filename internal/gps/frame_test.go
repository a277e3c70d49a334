package gps

import (
	"slices"
	"strings"
	"testing"
)

func frames(in string) (lines, drops []string) {
	var f framer
	for i := range len(in) {
		line, why := f.push(in[i])
		switch {
		case why != "":
			drops = append(drops, string(why)+" "+string(line))
		case len(line) > 0:
			lines = append(lines, string(line))
		}
	}
	if rest := f.rest(); len(rest) > 0 {
		lines = append(lines, string(rest))
	}
	return lines, drops
}

func TestFramer(t *testing.T) {
	long := "$" + strings.Repeat("x", maxSentence-1)
	for _, c := range []struct {
		name, in     string
		lines, drops []string
	}{
		{"CR LF", "$A*00\r\n$B*00\r\n", []string{"$A*00", "$B*00"}, nil},
		{"LF alone", "$A*00\n$B*00\n", []string{"$A*00", "$B*00"}, nil},
		{"CR alone", "$A*00\r$B*00\r", []string{"$A*00", "$B*00"}, nil},
		{"CR CR LF", "$A*00\r\r\n$B*00\r\r\n", []string{"$A*00", "$B*00"}, nil},
		{"partial first line", "293,N,01134*5A\r\n$A*00\r\n", []string{"$A*00"}, nil},
		{"no end of the last line", "$A*00\r\n$B*00", []string{"$A*00", "$B*00"}, nil},
		{"UBX between sentences", "$A*00\r\n\xb5\x62\x01\x07\x00\x00\x08\x19$B*00\r\n", []string{"$A*00", "$B*00"}, nil},
		{"noise within a sentence", "$A,\xff1*00\r\n$B*00\r\n", []string{"$B*00"}, []string{"noise $A,"}},
		{"a zero byte and DEL", "$A\x00$B\x7f\n$C\n", []string{"$C"}, []string{"noise $A", "noise $B"}},
		{"a sentence in a sentence", "$GPGGA,12$GPRMC*00\n", []string{"$GPRMC*00"}, []string{"cut_off $GPGGA,12"}},
		{"ST Teseo's $$", "$$A*00\n$$B*00\n", []string{"$A*00", "$B*00"}, nil},
		{"AIS", "!AIVDM,1,1,,B,13,0*12\r\n$A*00\r\n", []string{"$A*00"}, nil},
		{"tag block", `\s:r1*00\$A*00` + "\n", []string{"$A*00"}, nil},
		{"256 characters", long + "\n", []string{long}, nil},
		{"257 characters", long + "x\n$A*00\n", []string{"$A*00"}, []string{"too_long " + long}},
	} {
		lines, drops := frames(c.in)
		if !slices.Equal(lines, c.lines) || !slices.Equal(drops, c.drops) {
			t.Errorf("%s: %q, dropped %q; want %q, %q", c.name, lines, drops, c.lines, c.drops)
		}
	}
}

func TestChecksum(t *testing.T) {
	for line, want := range map[string]Reason{
		"$GPTXT,hello*5D":                      WrongChecksum,
		"$GPTXT,hello":                         NoChecksum,
		"$GPTXT,hello*":                        NoChecksum,
		"$GPTXT,hello*5":                       NoChecksum,
		"$GPTXT,hello*5G":                      NoChecksum,
		"$":                                    NoChecksum,
		"$GPTXT,DEFAULT PVT CONFIGURATION*2A":  "",
		"$GPTXT,DEFAULT PVT CONFIGURATION*2a":  "",
		"$GPTXT,DEFAULT PVT CONFIGURATION*2A ": "",
		"$GPTXT,DEFAULT PVT CONFIGURATION*2Ax": NoChecksum,
	} {
		if _, why := checked([]byte(line)); why != want {
			t.Errorf("checked(%q) = %q, want %q", line, why, want)
		}
	}
}
