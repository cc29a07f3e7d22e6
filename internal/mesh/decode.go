package mesh

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// fieldsOf are the fields of the types that entities are made of, by their names on the wire, those of embedded structs included.
var fieldsOf = func() map[reflect.Type]map[string][]int {
	all := map[reflect.Type]map[string][]int{}
	for _, of := range []any{Workload{}, Service{}, Policy{}, Ztunnel{}, Port{}, Certificate{}} {
		t := reflect.TypeOf(of)
		all[t] = map[string][]int{}
		for _, field := range reflect.VisibleFields(t) {
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
				all[t][name] = field.Index
			}
		}
	}
	return all
}()

// decode reads a map as encoding/json would if it were JSON; the entity's json tags name the fields.
func decode(from pcommon.Map, into any) error {
	return decodeStruct(from, reflect.ValueOf(into).Elem())
}

func decodeStruct(from pcommon.Map, into reflect.Value) error {
	fields := fieldsOf[into.Type()]
	for name, value := range from.All() {
		index, ok := fields[name]
		if !ok {
			continue
		}
		if err := decodeValue(value, into.FieldByIndex(index)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func decodeValue(value pcommon.Value, into reflect.Value) error {
	switch value.Type() {
	case pcommon.ValueTypeEmpty:
		return nil
	case pcommon.ValueTypeStr:
		text := strings.ToValidUTF8(value.Str(), "\uFFFD")
		if t, ok := into.Addr().Interface().(*time.Time); ok {
			return t.UnmarshalText([]byte(text))
		}
		if into.Kind() == reflect.String {
			into.SetString(text)
			return nil
		}
	case pcommon.ValueTypeBool:
		if into.Kind() == reflect.Bool {
			into.SetBool(value.Bool())
			return nil
		}
	case pcommon.ValueTypeInt:
		if n := value.Int(); into.CanUint() && n >= 0 && !into.OverflowUint(uint64(n)) {
			into.SetUint(uint64(n))
			return nil
		}
	case pcommon.ValueTypeDouble:
		if n := value.Double(); into.CanUint() && n >= 0 && n < 1<<53 && float64(uint64(n)) == n && !into.OverflowUint(uint64(n)) {
			into.SetUint(uint64(n))
			return nil
		}
	case pcommon.ValueTypeSlice:
		if into.Kind() != reflect.Slice {
			break
		}
		into.Set(reflect.MakeSlice(into.Type(), value.Slice().Len(), value.Slice().Len()))
		for i, element := range value.Slice().All() {
			if err := decodeValue(element, into.Index(i)); err != nil {
				return fmt.Errorf("element %d: %w", i, err)
			}
		}
		return nil
	case pcommon.ValueTypeMap:
		if _, ok := fieldsOf[into.Type()]; ok {
			return decodeStruct(value.Map(), into)
		}
		if into.Kind() != reflect.Map {
			break
		}
		into.Set(reflect.MakeMapWithSize(into.Type(), value.Map().Len()))
		for name, element := range value.Map().All() {
			decoded := reflect.New(into.Type().Elem()).Elem()
			if err := decodeValue(element, decoded); err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
			into.SetMapIndex(reflect.ValueOf(strings.ToValidUTF8(name, "\uFFFD")), decoded)
		}
		return nil
	}
	return fmt.Errorf("a value of type %s is no %s", value.Type(), into.Type())
}
