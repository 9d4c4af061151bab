# What every first-party target is built with, and the few helpers the rooms call.

find_program(MUSTER_CCACHE ccache)
if(MUSTER_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${MUSTER_CCACHE})
endif()
find_program(MUSTER_LLD ld.lld)
if(MUSTER_LLD)
  add_link_options(-fuse-ld=lld)
endif()
# An executor proves that it is the driver's binary by this note.
add_link_options(-Wl,--build-id=sha1)

# Generated code does not link this. g++ 12 warns falsely of maybe-uninitialized (std::variant at -O2) and of
# restrict ("text" + std::string at -O2, its bug 105651).
add_library(muster_options INTERFACE)
add_library(muster::options ALIAS muster_options)
target_include_directories(muster_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
target_compile_options(muster_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wconversion;-Wno-sign-conversion;$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized$<SEMICOLON>-Wno-restrict>;-Werror>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:Clang>>:-Wthread-safety>)
# The libraries are built for shared objects too, and g++ would inline no function that another could replace.
target_compile_options(muster_options INTERFACE
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>,$<CONFIG:Release>>:-fno-semantic-interposition>)
if(MUSTER_SANITIZE)
  add_compile_options(-fsanitize=${MUSTER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${MUSTER_SANITIZE})
endif()
if(MUSTER_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# What CI builds under the sanitizers, and the programs scripts/test runs for a while.
add_custom_target(core_tests)
add_custom_target(threaded_tests)
add_custom_target(fuzzers)

# muster_library(scheduler SRCS a.cc DEPS absl::strings [PRIVATE_DEPS ...]): the target muster_scheduler,
# known to others as muster::scheduler. DEPS are what its headers show.
function(muster_library name)
  cmake_parse_arguments(L "" "" "SRCS;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(muster_${name} STATIC ${L_SRCS})
  add_library(muster::${name} ALIAS muster_${name})
  target_link_libraries(muster_${name} PUBLIC ${L_DEPS} PRIVATE ${L_PRIVATE_DEPS} $<BUILD_INTERFACE:muster::options>)
  target_include_directories(muster_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  set_target_properties(muster_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

# muster_test(label_selector_test SRCS label_selector_test.cc DEPS muster::scheduler [TIMEOUT 60])
# Its ctest label is "core" where it tests pure code, of one thread, which CI also runs under clang's asan and
# ubsan; "threads" where it tests what our own threads share, which CI also runs under tsan; else "shell".
function(muster_test name)
  if(NOT MUSTER_TESTS)
    return()
  endif()
  cmake_parse_arguments(T "" "TIMEOUT" "SRCS;DEPS;ENVIRONMENT" ${ARGN})
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 60)
  endif()
  add_executable(${name} ${T_SRCS})
  target_link_libraries(${name} PRIVATE muster::options ${T_DEPS} GTest::gmock GTest::gtest_main)
  file(RELATIVE_PATH room ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  set(label shell)
  if(name MATCHES "_core_test$" OR room MATCHES "^(scheduler|kernels|tests/sim|tests/golden)(/|$)")
    set(label core)
    add_dependencies(core_tests ${name})
  elseif(room MATCHES "^runtime/(base|collective|executor|snapshot|wire)$")
    set(label threads)
    add_dependencies(threaded_tests ${name})
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES
    TIMEOUT ${T_TIMEOUT} LABELS ${label} ENVIRONMENT "${T_ENVIRONMENT}")
endfunction()

# muster_fuzz(label_selector_fuzz SRCS ... DEPS ...): a libFuzzer program, in the clang preset only.
function(muster_fuzz name)
  if(NOT MUSTER_FUZZ)
    return()
  endif()
  cmake_parse_arguments(F "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${F_SRCS})
  target_link_libraries(${name} PRIVATE muster::options ${F_DEPS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzzers ${name})
endfunction()
