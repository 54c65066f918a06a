package main

import (
	"context"
	"fmt"
	"os"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

type objectVerdict struct {
	File string `json:"file"`
	// Valid says whether kubectl, which asks for strict field validation, would get the object accepted.
	Valid         bool           `json:"valid"`
	UnknownFields []string       `json:"unknownFields"`
	Errors        []problem      `json:"errors"`
	Object        map[string]any `json:"object,omitempty"`
}

// judgeObject does to a file what creating the object, or updating the old one to it, would.
func judgeObject(ctx context.Context, kinds map[string]*kind, file, old string) (objectVerdict, error) {
	verdict := objectVerdict{File: file, UnknownFields: []string{}, Errors: []problem{}}
	object, err := read(file)
	if err != nil {
		return verdict, err
	}
	found, known := kinds[object.GetKind()]
	if !known || object.GroupVersionKind() != found.name {
		verdict.Errors = append(verdict.Errors, problem{
			Field: "kind", Type: "NoMatch", Message: fmt.Sprintf("no matches for %v", object.GroupVersionKind()),
		})
		return verdict, nil
	}
	verdict.UnknownFields, err = found.admit(object)
	if err != nil {
		verdict.Errors = append(verdict.Errors, problem{Type: "Decoding", Message: err.Error()})
		return verdict, nil
	}
	if old == "" {
		found.strategy.PrepareForCreate(ctx, object)
		verdict.Errors = problems(found.strategy.Validate(ctx, object))
	} else {
		before, err := read(old)
		if err != nil {
			return verdict, err
		}
		if _, err := found.admit(before); err != nil {
			return verdict, fmt.Errorf("%s: %w", old, err)
		}
		found.strategy.PrepareForUpdate(ctx, object, before)
		verdict.Errors = problems(found.strategy.ValidateUpdate(ctx, object, before))
	}
	verdict.Valid = len(verdict.Errors) == 0 && len(verdict.UnknownFields) == 0
	verdict.Object = object.Object
	return verdict, nil
}

func read(file string) (*unstructured.Unstructured, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{}
	return object, utiljson.Unmarshal(asJSON, &object.Object)
}

// admit is what happens to a request's object between the wire and validation: unknown fields go (and are told, as
// strict field validation asks), nulls go, defaults come. Metadata is completed as the registry does.
func (k *kind) admit(object *unstructured.Unstructured) ([]string, error) {
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(object.Object, objectmeta.ObjectMetaOptions{
		ReturnUnknownFieldPaths: true,
	})
	if err != nil {
		return nil, err
	}
	unknown = append(unknown, pruning.PruneWithOptions(object.Object, k.structural, true,
		structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})...)
	defaulting.PruneNonNullableNullsWithoutDefaults(object.Object, k.structural)
	if found {
		if err := objectmeta.SetObjectMeta(object.Object, meta); err != nil {
			return nil, err
		}
	}
	defaulting.Default(object.Object, k.structural)
	if object.GetNamespace() == "" {
		object.SetNamespace("default")
	}
	object.SetUID("a")
	object.SetResourceVersion("1")
	if unknown == nil {
		unknown = []string{}
	}
	return unknown, nil
}
