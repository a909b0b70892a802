<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" styleCategories="Symbology|Fields|Forms|MapTips|AttributeTable|Rendering" hasScaleBasedVisibilityFlag="0" simplifyDrawingHints="1" simplifyDrawingTol="1" simplifyAlgorithm="0" simplifyLocal="0" simplifyMaxScale="1">
  <!-- By symbol levels every edge is drawn before any fill. So it shows on its outer half only,
       and not at all where a giant patch is cut in parts: there the neighbour's fill covers it.
       It is 20 m wide and at most 1 mm: gone on a map of the whole scene, there among pixels. -->
  <renderer-v2 type="RuleRenderer" symbollevels="1" forceraster="0" enableorderby="0">
    <rules key="{forest}">
      <rule key="{forest-fill}" symbol="0" label="forest"/>
      <rule key="{forest-edge}" symbol="1" label="edge of forest" scalemindenom="1" scalemaxdenom="100000"/>
    </rules>
    <symbols>
      <symbol name="0" type="fill" alpha="1" clip_to_extent="1" force_rhr="0">
        <!-- Its own outline closes the seam that smoothed edges leave between parts: 8 m, 0.1 to
             0.25 mm. A wider one would close the small clearings of a whole scene, too. -->
        <layer class="SimpleFill" enabled="1" locked="0" pass="1">
          <Option type="Map">
            <Option name="color" type="QString" value="27,120,55,255"/>
            <Option name="outline_color" type="QString" value="27,120,55,255"/>
            <Option name="outline_style" type="QString" value="solid"/>
            <Option name="outline_width" type="QString" value="8"/>
            <Option name="outline_width_unit" type="QString" value="RenderMetersInMapUnits"/>
            <Option name="border_width_map_unit_scale" type="QString" value="3x:0,0,1,0.1,1,0.25"/>
            <Option name="joinstyle" type="QString" value="bevel"/>
            <Option name="style" type="QString" value="solid"/>
          </Option>
        </layer>
      </symbol>
      <symbol name="1" type="fill" alpha="1" clip_to_extent="1" force_rhr="0">
        <layer class="SimpleLine" enabled="1" locked="0" pass="0">
          <Option type="Map">
            <Option name="line_color" type="QString" value="255,217,47,255"/>
            <Option name="line_style" type="QString" value="solid"/>
            <Option name="line_width" type="QString" value="20"/>
            <Option name="line_width_unit" type="QString" value="RenderMetersInMapUnits"/>
            <Option name="width_map_unit_scale" type="QString" value="3x:0,0,0,0,1,1"/>
            <Option name="joinstyle" type="QString" value="bevel"/>
            <Option name="capstyle" type="QString" value="flat"/>
          </Option>
        </layer>
      </symbol>
    </symbols>
  </renderer-v2>
  <blendMode>0</blendMode>
  <!-- Of the layer, not of the colours: nothing shows twice where polygons touch. -->
  <layerOpacity>0.5</layerOpacity>
  <fieldConfiguration>
    <field name="fid">
      <editWidget type="Hidden"><config><Option/></config></editWidget>
    </field>
    <field name="patch_id">
      <editWidget type="TextEdit"><config><Option/></config></editWidget>
    </field>
    <field name="area_ha">
      <editWidget type="Range">
        <config><Option type="Map">
          <Option name="AllowNull" type="bool" value="true"/>
          <Option name="Max" type="double" value="1000000000000"/>
          <Option name="Min" type="double" value="0"/>
          <Option name="Precision" type="int" value="2"/>
          <Option name="Step" type="double" value="1"/>
          <Option name="Style" type="QString" value="SpinBox"/>
        </Option></config>
      </editWidget>
    </field>
    <field name="patch_area_ha">
      <editWidget type="Range">
        <config><Option type="Map">
          <Option name="AllowNull" type="bool" value="true"/>
          <Option name="Max" type="double" value="1000000000000"/>
          <Option name="Min" type="double" value="0"/>
          <Option name="Precision" type="int" value="2"/>
          <Option name="Step" type="double" value="1"/>
          <Option name="Style" type="QString" value="SpinBox"/>
        </Option></config>
      </editWidget>
    </field>
    <field name="perimeter_m">
      <editWidget type="Range">
        <config><Option type="Map">
          <Option name="AllowNull" type="bool" value="true"/>
          <Option name="Max" type="double" value="1000000000000"/>
          <Option name="Min" type="double" value="0"/>
          <Option name="Precision" type="int" value="0"/>
          <Option name="Step" type="double" value="1"/>
          <Option name="Style" type="QString" value="SpinBox"/>
        </Option></config>
      </editWidget>
    </field>
    <field name="n_pixels">
      <editWidget type="TextEdit"><config><Option/></config></editWidget>
    </field>
    <field name="mean_probability">
      <editWidget type="Range">
        <config><Option type="Map">
          <Option name="AllowNull" type="bool" value="true"/>
          <Option name="Max" type="double" value="1000000000000"/>
          <Option name="Min" type="double" value="0"/>
          <Option name="Precision" type="int" value="3"/>
          <Option name="Step" type="double" value="1"/>
          <Option name="Style" type="QString" value="SpinBox"/>
        </Option></config>
      </editWidget>
    </field>
    <field name="scene_id">
      <editWidget type="TextEdit"><config><Option/></config></editWidget>
    </field>
    <field name="acquired">
      <editWidget type="DateTime">
        <config><Option type="Map">
          <Option name="allow_null" type="bool" value="true"/>
          <Option name="calendar_popup" type="bool" value="true"/>
          <Option name="display_format" type="QString" value="yyyy-MM-dd HH:mm:ss"/>
          <Option name="field_format" type="QString" value="yyyy-MM-dd HH:mm:ss"/>
          <Option name="field_iso_format" type="bool" value="false"/>
        </Option></config>
      </editWidget>
    </field>
    <field name="model">
      <editWidget type="TextEdit"><config><Option/></config></editWidget>
    </field>
    <field name="threshold">
      <editWidget type="Range">
        <config><Option type="Map">
          <Option name="AllowNull" type="bool" value="true"/>
          <Option name="Max" type="double" value="1000000000000"/>
          <Option name="Min" type="double" value="0"/>
          <Option name="Precision" type="int" value="3"/>
          <Option name="Step" type="double" value="1"/>
          <Option name="Style" type="QString" value="SpinBox"/>
        </Option></config>
      </editWidget>
    </field>
  </fieldConfiguration>
  <aliases>
    <alias field="patch_id" index="1" name="Patch"/>
    <alias field="area_ha" index="2" name="Area of this polygon (ha)"/>
    <alias field="patch_area_ha" index="3" name="Area of the whole patch (ha)"/>
    <alias field="perimeter_m" index="4" name="Perimeter (m)"/>
    <alias field="n_pixels" index="5" name="Pixels"/>
    <alias field="mean_probability" index="6" name="Mean probability of forest"/>
    <alias field="scene_id" index="7" name="Scene"/>
    <alias field="acquired" index="8" name="Acquired (UTC)"/>
    <alias field="model" index="9" name="Model"/>
    <alias field="threshold" index="10" name="Threshold of probability"/>
  </aliases>
  <attributetableconfig actionWidgetStyle="dropDown" sortExpression="" sortOrder="0">
    <columns>
      <column type="field" name="fid" hidden="1" width="-1"/>
      <column type="field" name="patch_id" hidden="0" width="-1"/>
      <column type="field" name="area_ha" hidden="0" width="-1"/>
      <column type="field" name="patch_area_ha" hidden="0" width="-1"/>
      <column type="field" name="perimeter_m" hidden="0" width="-1"/>
      <column type="field" name="n_pixels" hidden="0" width="-1"/>
      <column type="field" name="mean_probability" hidden="0" width="-1"/>
      <column type="field" name="scene_id" hidden="0" width="-1"/>
      <column type="field" name="acquired" hidden="0" width="-1"/>
      <column type="field" name="model" hidden="0" width="-1"/>
      <column type="field" name="threshold" hidden="0" width="-1"/>
      <column type="actions" hidden="1" width="-1"/>
    </columns>
  </attributetableconfig>
  <editorlayout>tablayout</editorlayout>
  <attributeEditorForm>
    <attributeEditorContainer name="Forest" columnCount="1" groupBox="1" showLabel="1" visibilityExpressionEnabled="0" visibilityExpression="">
      <attributeEditorField name="patch_id" index="1" showLabel="1"/>
      <attributeEditorField name="area_ha" index="2" showLabel="1"/>
      <attributeEditorField name="patch_area_ha" index="3" showLabel="1"/>
      <attributeEditorField name="perimeter_m" index="4" showLabel="1"/>
      <attributeEditorField name="n_pixels" index="5" showLabel="1"/>
      <attributeEditorField name="mean_probability" index="6" showLabel="1"/>
    </attributeEditorContainer>
    <attributeEditorContainer name="Origin" columnCount="1" groupBox="1" showLabel="1" visibilityExpressionEnabled="0" visibilityExpression="">
      <attributeEditorField name="scene_id" index="7" showLabel="1"/>
      <attributeEditorField name="acquired" index="8" showLabel="1"/>
      <attributeEditorField name="model" index="9" showLabel="1"/>
      <attributeEditorField name="threshold" index="10" showLabel="1"/>
    </attributeEditorContainer>
  </attributeEditorForm>
  <!-- Numbers only: a text from outside could bring HTML with it. -->
  <mapTip>&lt;b>[% format_number("area_ha", 2) %] ha&lt;/b> forest cover (model)[% CASE WHEN "patch_area_ha" > "area_ha" + 0.005 THEN '&lt;br>in a patch of ' || format_number("patch_area_ha", 2) || ' ha' ELSE '' END %][% coalesce('&lt;br>mean probability ' || format_number("mean_probability", 3), '') %]&lt;br>patch [% to_string("patch_id") %]</mapTip>
  <previewExpression>'Patch ' || to_string("patch_id") || ': ' || format_number("area_ha", 2) || ' ha'</previewExpression>
</qgis>
