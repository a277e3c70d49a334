package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Columns is the record in the form `columns`: in place of its samples one array for each
// name, all of the same length, t in milliseconds since the epoch, null where a sample
// has no such value. It says the same in a third of the bytes. An event is returned as
// it is.
func (r Record) Columns() (Record, error) {
	head, samples, isBatch := bytes.Cut(r.body, []byte(`"samples":`))
	if !isBatch || bytes.ContainsAny(head, "{[") { // an event's data may have any names
		return r, nil
	}
	d := json.NewDecoder(bytes.NewReader(samples))
	d.UseNumber()
	c := columns{at: map[string]int{}}
	if err := c.read(d); err != nil {
		return r, fmt.Errorf("samples of a record: %w", err)
	}
	body := append(bytes.Clone(head), `"columns":{`...)
	for i, column := range c.list {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(appendString(body, column.name), ':', '[')
		body = append(append(body, column.values...), ']')
	}
	r.body = append(body, '}')
	r.body = append(r.body, samples[d.InputOffset():]...)
	return r, nil
}

// columns gathers samples by name, in the order in which the names come.
type columns struct {
	list []column
	at   map[string]int // in list, by name
	rows int
}

type column struct {
	name   string
	values []byte // separated by commas
	rows   int    // how many of them
}

// read takes an array of flat objects.
func (c *columns) read(d *json.Decoder) error {
	if err := expect(d, '['); err != nil {
		return err
	}
	for d.More() {
		if err := c.sample(d); err != nil {
			return err
		}
	}
	for i := range c.list {
		c.list[i].fill(c.rows)
	}
	return expect(d, ']')
}

func (c *columns) sample(d *json.Decoder) error {
	if err := expect(d, '{'); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		name, _ := key.(string) // of an object it is one
		if name == "t" {
			if value, err = epochMilliseconds(value); err != nil {
				return err
			}
		}
		c.add(name, value)
	}
	c.rows++
	return expect(d, '}')
}

func (c *columns) add(name string, value []byte) {
	i, known := c.at[name]
	if !known {
		i = len(c.list)
		c.at[name] = i
		c.list = append(c.list, column{name: name})
	}
	c.list[i].fill(c.rows)
	c.list[i].append(value)
}

func (c *column) fill(rows int) {
	for c.rows < rows {
		c.append([]byte("null"))
	}
}

func (c *column) append(value []byte) {
	if c.rows++; c.rows > 1 {
		c.values = append(c.values, ',')
	}
	c.values = append(c.values, value...)
}

// epochMilliseconds turns the text of a time into milliseconds since the epoch.
func epochMilliseconds(text []byte) ([]byte, error) {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, err
	}
	t, err := time.Parse(timeFormat, s)
	if err != nil {
		return nil, err
	}
	return strconv.AppendInt(nil, t.UnixMilli(), 10), nil
}

func expect(d *json.Decoder, want json.Delim) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("%v in place of %v", token, want)
	}
	return nil
}
