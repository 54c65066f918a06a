package main

import (
	"context"
	"fmt"
	"os"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresource"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// A kind is what the API server keeps of a definition in order to serve objects.
type kind struct {
	name       schema.GroupVersionKind
	structural *structuralschema.Structural
	strategy   strategy
}

// A strategy judges objects; the API server's own type is not exported.
type strategy interface {
	PrepareForCreate(ctx context.Context, object runtime.Object)
	Validate(ctx context.Context, object runtime.Object) field.ErrorList
	PrepareForUpdate(ctx context.Context, object, old runtime.Object)
	ValidateUpdate(ctx context.Context, object, old runtime.Object) field.ErrorList
}

type definitionVerdict struct {
	File     string    `json:"file"`
	Name     string    `json:"name"`
	Valid    bool      `json:"valid"`
	Errors   []problem `json:"errors"`
	Warnings []string  `json:"warnings"`
}

var scheme = func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	return scheme
}()

// judgeDefinition does to a file what creating the definition would: strict decoding, defaulting, conversion, and
// validation, which includes the structural schema, its defaults, and the type and estimated cost of every CEL rule.
func judgeDefinition(ctx context.Context, file string) (definitionVerdict, *kind, error) {
	verdict := definitionVerdict{File: file, Errors: []problem{}, Warnings: []string{}}
	text, err := os.ReadFile(file)
	if err != nil {
		return verdict, nil, err
	}
	var external v1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &external); err != nil {
		return verdict, nil, err
	}
	verdict.Name = external.Name
	scheme.Default(&external)
	var definition apiextensions.CustomResourceDefinition
	if err := scheme.Convert(&external, &definition, nil); err != nil {
		return verdict, nil, err
	}
	strategy := customresourcedefinition.NewStrategy(scheme)
	strategy.PrepareForCreate(ctx, &definition)
	verdict.Errors = problems(strategy.Validate(ctx, &definition))
	verdict.Warnings = append(verdict.Warnings, strategy.WarningsOnCreate(ctx, &definition)...)
	verdict.Valid = len(verdict.Errors) == 0 && len(verdict.Warnings) == 0
	if len(verdict.Errors) > 0 {
		return verdict, nil, nil
	}
	found, err := served(&definition)
	return verdict, found, err
}

func served(definition *apiextensions.CustomResourceDefinition) (*kind, error) {
	version := definition.Spec.Versions[0].Name
	schemas, err := apiextensions.GetSchemaForVersion(definition, version)
	if err != nil {
		return nil, err
	}
	structural, err := structuralschema.NewStructural(schemas.OpenAPIV3Schema)
	if err != nil {
		return nil, fmt.Errorf("not structural: %w", err)
	}
	validator, _, err := validation.NewSchemaValidator(schemas.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	name := schema.GroupVersionKind{Group: definition.Spec.Group, Version: version, Kind: definition.Spec.Names.Kind}
	strategy := customresource.NewStrategy(scheme, true, name, validator, nil, structural,
		&apiextensions.CustomResourceSubresourceStatus{}, nil, nil)
	return &kind{name: name, structural: structural, strategy: strategy}, nil
}

func problems(list field.ErrorList) []problem {
	found := []problem{}
	for _, each := range list {
		found = append(found, problem{Field: each.Field, Type: string(each.Type), Message: each.ErrorBody()})
	}
	return found
}
