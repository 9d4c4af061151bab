// (contract sketch; see DESIGN 3) class LabelSelector: Parse(map<string,string>), ParseText("k=v,..."), ParseJson-free; Matches(Labels);
// FirstMismatch(Labels) -> optional<Mismatch{key, clause text, actual}>; ToString canonical; operator==, <; AbslHashValue.
#pragma once
namespace muster { class LabelSelector; }
